"""What the surroundings of a model decide: where things lie, progress, interruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from .backbone import Backbone


class Host:
    """The plain surroundings: the model stays where it was loaded, nothing is reported.

    ComfyUI's side of the pack derives from this to put the model under ComfyUI's memory
    management; the command line to draw progress bars.

    Attributes:
        hold_device: Where hidden states are kept between requests.
        cache_device: Where the prefix cache is kept.
        device: Where the weights run once they are brought; None = where they lie.
        patcher: What ComfyUI's caches recognise a model by; None outside ComfyUI.
        patches: What is put on the weights while they run, by a name that changes with it; None =
            something that no cache on disk can know.
        keyframes: Options that the conditioning of each version of the weights carries; more than
            one where a schedule changes the weights along the sampling.
    """

    hold_device = torch.device("cpu")
    cache_device = torch.device("cpu")
    device: torch.device | None = None
    patcher: Any = None
    patches: str | None = ""
    keyframes: Sequence[dict[str, Any]] = ({},)

    def attach(self, backbone: Backbone) -> None:
        """Takes charge of a freshly loaded model."""

    def unpatched(self) -> Mapping[int, torch.Tensor]:
        """Weights as they were before patches were written into them, by the `id` of the parameter
        that now holds the patched ones."""
        return {}

    def running(self) -> AbstractContextManager:
        """Around a whole run."""
        return nullcontext()

    def bring(self, part: str, memory_bytes: int, keyframe: int = 0) -> None:
        """Brings a part of the weights to its device; called before anything of it runs.

        Args:
            part: `backbone.VISION`, `backbone.AUDIO` or `backbone.TEXT`.
            memory_bytes: Estimate of what the part's run needs beside the weights.
            keyframe: Index into `keyframes`.
        """

    def step(self, done: int, total: int) -> None:
        """Reports that `done` of `total` steps of a run are over; may raise to interrupt it."""
