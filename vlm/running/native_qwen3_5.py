"""A Qwen3.5 that ComfyUI has loaded: three of four layers are linear attention.

As comfy/text_encoders/qwen35.py builds it. It differs from the published model in one place: the
three axes of a picture's positions lie side by side in the rotary embedding, where the model was
trained with them interleaved (transformers' Qwen3_5TextRotaryEmbedding). Here they are interleaved;
words, whose axes are equal, get the same bits either way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..families import qwen3_5
from ..families.layer_cache import LayerCache, Pair
from .backbone import TEXT
from .native import NativeBackbone, NativeMask


class NativeState(LayerCache):
    """What the layers of one answer remember, as the native model makes it.

    Attributes:
        room: Positions in all.
        states: Of all layers; empty until the first of them runs.
    """

    def __init__(self, room: int, states: list[Any]):
        """Takes the list that all layers share."""
        super().__init__()
        self.room = room
        self.states = states


@dataclass(frozen=True)
class NativeMixedDecoder(qwen3_5.MixedDecoder):
    """The family's, with ComfyUI's own memory for an answer."""

    def growing_cache(self, text: Any, room: int, past: Pair | None, before: Any) -> NativeState:
        """One that shares its list with the layer before."""
        return NativeState(room, [] if before is None else before.states)


FAMILY = replace(qwen3_5.FAMILY, decoder=NativeMixedDecoder(mrope=True, reuses_prefix=False))


class NativeQwen35(NativeBackbone):
    """A Qwen3.5 text encoder of ComfyUI."""

    def rotary(self, hidden: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Rotary embedding with interleaved axes: cos and the two halves of sin."""
        _, rows, columns = self.text.config.mrope_section
        axes = [
            self.text.compute_freqs_cis(positions[axis : axis + 1], hidden.device)
            for axis in range(3)
        ]
        frequencies = axes[0][1].shape[-1]
        axis_of = torch.zeros(frequencies, dtype=torch.long, device=hidden.device)
        axis_of[1 : 3 * rows : 3], axis_of[2 : 3 * columns : 3] = 1, 2
        return tuple(_interleave(torch.stack(parts), axis_of) for parts in zip(*axes, strict=True))

    def run_layer(
        self,
        layer: int,
        hidden: torch.Tensor,
        rotary: Any,
        mask: Any,
        cache: LayerCache | None,
    ) -> torch.Tensor:
        """Runs one decoder layer; see `Backbone.run_layer`."""
        past = None
        if isinstance(cache, NativeState):
            if not cache.states:
                cache.states += self._transformer.init_kv_cache(
                    1, cache.room, hidden.device, hidden.dtype
                )
            past = cache.states[layer]
        block = self.text.layers[layer]
        if isinstance(mask, NativeMask) and hasattr(block, "linear_attn"):
            return _run_linear(block, hidden, mask)
        output, present = self._call(layer, hidden, rotary, mask, past)
        if isinstance(cache, NativeState):
            cache.states[layer] = present
        return output

    def run_bytes(self, part: str, tokens: int, patches: int, frames: int = 0) -> int:
        """Estimate of a run's memory; see `Backbone.run_bytes`."""
        needed = super().run_bytes(part, tokens, patches, frames)
        if part != TEXT:
            return needed
        own = self.family.decoder.layer_bytes(self.text, tokens, self.dtype.itemsize)
        return max(needed, own + self.converted_bytes(part))


def _run_linear(block: Any, hidden: torch.Tensor, mask: NativeMask) -> torch.Tensor:
    """A layer of linear attention in which pad tokens leave no trace; the native one has no mask.

    The rest is the block's own forward, piece by piece.
    """
    real = (mask.added[0, 0, -1] == 0).to(hidden.dtype)
    seen, _ = block.linear_attn(block.input_layernorm(hidden) * real[:, None])
    hidden = hidden + seen
    return hidden + block.mlp(block.post_attention_layernorm(hidden))


def _interleave(parts: torch.Tensor, axis_of: torch.Tensor) -> torch.Tensor:
    """Values [3, ..., F] or [3, ..., 2 F] of three axes to those of each frequency's axis."""
    axis_of = axis_of.repeat(parts.shape[-1] // len(axis_of))
    return parts.gather(0, axis_of.expand(parts.shape[1:])[None])[0]
