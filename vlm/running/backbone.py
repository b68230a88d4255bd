"""The surface of a VLM taken apart: embeddings, towers, one decoder layer at a time.

Two things stand behind it: a model of transformers (`vlm.running.huggingface`) and a text encoder
that ComfyUI has loaded (`vlm.running.native`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch

from ..families.layer_cache import LayerCache
from .plain_forward import PlainForward

# The parts that can be on the device one after the other.
VISION, AUDIO, TEXT = "vision", "audio", "text"


class Backbone(ABC):
    """The parts of a VLM that hidden states need; the LM head only where it writes.

    Attributes:
        num_decoder_layers: Decoder layers; hidden states have one layer more.
        width: Width D of the residual stream.
        dtype: Of the residual stream.
        num_deepstack: Decoder layers after which vision features are added again.
        vocabulary: Token ids it has embeddings for.
        vision_config: What the family's `video_time_step` reads; None without a vision tower.
        text: The language model.
        visual: The vision tower; None where there is none.
        hearing: The audio tower; None where there is none.
        plain: What runs it where its layers cannot be run one at a time; None = they can.
    """

    num_decoder_layers: int
    width: int
    dtype: torch.dtype
    num_deepstack: int
    vocabulary: int
    vision_config: Any
    text: torch.nn.Module
    visual: Any
    hearing: Any = None
    plain: PlainForward | None = None

    @abstractmethod
    def device_of(self, part: str) -> torch.device:
        """Where a part (`VISION`, `AUDIO` or `TEXT`) runs now."""

    @abstractmethod
    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token embeddings: int64 [1, N] to [1, N, D] on the text part's device."""

    @abstractmethod
    def encode_vision(
        self, pixels: torch.Tensor, grid: tuple[int, ...]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Runs the vision tower on one picture or video.

        Args:
            pixels: Patches [P, C * T * p * p], normalised.
            grid: Patch grid (time, rows, columns) before the merge; see `Patches.grid`.

        Returns:
            Features [n, D] after the merge, and one [n, D] per DeepStack level.
        """

    def encode_audio(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Runs the audio tower on one sound.

        Args:
            spectrum: Log-mel spectrum [mel, frames].

        Returns:
            Features [n, D].

        Raises:
            ValueError: The model has no audio tower, as it is until this is overridden.
        """
        raise ValueError("This model does not hear. Leave `audio` out, or load Qwen2.5-Omni.")

    @abstractmethod
    def rotary(self, hidden: torch.Tensor, positions: torch.Tensor) -> Any:
        """Rotary embedding of M-RoPE positions int64 [3, N], as the layers take it."""

    @abstractmethod
    def attention_mask(
        self, allowed: torch.Tensor | None, hidden: torch.Tensor, past: int, pads: int = 0
    ) -> Any:
        """What the layers take as a mask.

        Args:
            allowed: True where position q may look at position k, [1, 1, S, P + S]; None = plain
                causal attention: P is 0, or S is 1.
            hidden: [1, S, D], for its dtype and device.
            past: P.
            pads: So many of the first tokens are pad tokens, whose attention shall be zero; they
                look at themselves.
        """

    @abstractmethod
    def run_layer(
        self,
        layer: int,
        hidden: torch.Tensor,
        rotary: Any,
        mask: Any,
        cache: LayerCache | None,
    ) -> torch.Tensor:
        """Runs one decoder layer, without DeepStack.

        Args:
            layer: Decoder layer, origin 0.
            hidden: [1, S, D]; may be overwritten.
            rotary: Of the same S positions.
            mask: From `attention_mask`.
            cache: Past keys and values; takes the new ones.

        Returns:
            [1, S, D].

        Raises:
            CallError: It cannot be run by itself; a `PlainForward` can.
        """

    @abstractmethod
    def norm(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """The final norm of [1, N, D] on the text part's device; None where there is none."""

    @abstractmethod
    def head(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The LM head on the text part's device; its weights may go when it does.

        Returns:
            A function of normed states [1, 1, D] to logits [vocabulary].

        Raises:
            ValueError: The model has none, so it cannot write.
        """

    @property
    @abstractmethod
    def key_width(self) -> int:
        """Width of one token's keys in one decoder layer, all heads together."""

    def writing_bytes(self, tokens: int) -> int:
        """Estimate of what writing needs beside a run: keys and values of all layers, the head.

        Args:
            tokens: N of the sequence once it is written.
        """
        cache = 2 * self.num_decoder_layers * self.key_width * tokens
        return self.dtype.itemsize * (cache + self.vocabulary * self.width)

    def run_bytes(self, part: str, tokens: int, patches: int, frames: int = 0) -> int:
        """Estimate of a run's memory beside the weights, in bytes.

        The residual stream, attention and feed-forward of one layer live at a time, and, where
        weights are converted for each layer, the largest of them.

        Args:
            part: `VISION`, `AUDIO` or `TEXT`.
            tokens: N of the sequence.
            patches: P of its largest picture.
            frames: Steps of the spectrum of its longest sound.
        """
        size = self.dtype.itemsize
        if part == AUDIO:  # convolutions at every step, layers at every second one
            needed = frames * 16 * _widest(self.hearing)
        elif part == VISION:  # whose attention computes in float32, whatever the weights are in
            needed = patches * (16 * _widest(self.visual) + 2 * size * _pixel_values(self.visual))
        else:
            needed = tokens * size * (8 * self.width + 3 * _widest(self.text) + tokens)
        return needed + self.converted_bytes(part)

    def converted_bytes(self, part: str) -> int:
        """Bytes of the largest weight that a layer converts while it runs; 0 = none."""
        return 0


def _widest(module: torch.nn.Module) -> int:
    """The widest output of the linear layers in a module."""
    return max((getattr(part, "out_features", 0) for part in module.modules()), default=0)


def _pixel_values(visual: torch.nn.Module) -> int:
    """Values of one patch, as the tower's first layer takes it."""
    kernel = next(weight for weight in visual.parameters() if weight.ndim >= 4)
    return kernel[0].numel()
