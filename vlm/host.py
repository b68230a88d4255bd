"""What the surroundings of a model decide: where things lie, progress, interruption."""

from __future__ import annotations

from typing import Any

import torch


class Host:
    """The plain surroundings: the model stays where it was loaded, nothing is reported.

    ComfyUI's side of the pack derives from this to put the model under ComfyUI's memory
    management; the command line to draw progress bars.

    Attributes:
        hold_device: Where hidden states are kept between requests.
        cache_device: Where the prefix cache is kept.
        patcher: What ComfyUI's caches recognise a model by; None outside ComfyUI.
    """

    hold_device = torch.device("cpu")
    cache_device = torch.device("cpu")
    patcher: Any = None

    def attach(self, weights: torch.nn.Module) -> None:
        """Takes charge of freshly loaded weights."""

    def before_run(self, memory_bytes: int) -> None:
        """Brings the weights to their device; called before anything of the model runs.

        Args:
            memory_bytes: Estimate of what the run needs beside the weights.
        """

    def step(self, done: int, total: int) -> None:
        """Reports that `done` of `total` steps of a run are over; may raise to interrupt it."""
