"""A Gemma 3 that ComfyUI has loaded: most layers see a window only.

As comfy/text_encoders/llama.py builds it. The layers are run piece by piece, because their own call
makes the window's mask of the tokens that run and knows none of those before them. Pictures differ
from ComfyUI's own encoder: there their tokens look back only, here at each other, as the model was
trained.
"""

from __future__ import annotations

from typing import Any

import torch

from ..pictures.images import PixelRules
from ..pictures.square import SquarePreprocessor
from .native import NativeBackbone, NativeMask


class NativeGemma3(NativeBackbone):
    """A Gemma 3 text encoder of ComfyUI."""

    def _tower(self) -> Any:
        return self._transformer.vision_model

    def square(self) -> SquarePreprocessor:
        """How its tower wants pictures; the published preprocessing."""
        projector, side = self._transformer.multi_modal_projector, self._transformer.image_size
        rules = PixelRules(
            side // projector.patches_per_image,
            projector.kernel_size,
            1,
            (0.5,) * 3,
            (0.5,) * 3,
            side * side,
            side * side,
        )
        return SquarePreprocessor(rules, side)

    def encode_vision(
        self, pixels: torch.Tensor, grid: tuple[int, ...]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Runs its own vision tower and projector; see `Backbone.encode_vision`."""
        seen = self.visual(pixels.to(self._device, self.dtype))[0]
        return self._transformer.multi_modal_projector(seen)[0], []

    def attention_mask(
        self, allowed: torch.Tensor | None, hidden: torch.Tensor, past: int, pads: int = 0
    ) -> dict[int, Any]:
        """A mask for each window that its layers have; 0 = none."""
        windows = {int(layer.sliding_attention) for layer in self.text.layers}
        return {
            window: super(NativeGemma3, self).attention_mask(
                _near(allowed, hidden, past, window), hidden, past, pads
            )
            for window in windows
        }

    def _call(
        self, layer: int, hidden: torch.Tensor, rotary: Any, mask: Any, past: Any
    ) -> tuple[torch.Tensor, Any]:
        """The layer's own forward, with the mask and the rotary embedding of its kind."""
        block: Any = self.text.layers[layer]
        window = int(block.sliding_attention)
        attention, own = self._attention(hidden.device), mask[window]
        if isinstance(own, NativeMask):
            attention, own = own.blinded(attention), own.added
        seen, present = block.self_attn(
            hidden_states=block.input_layernorm(hidden),
            attention_mask=own,
            freqs_cis=rotary[1 if window else 0],
            optimized_attention=attention,
            past_key_value=past,
        )
        hidden = hidden + block.post_attention_layernorm(seen)
        made = block.mlp(block.pre_feedforward_layernorm(hidden))
        return hidden + block.post_feedforward_layernorm(made), present


def _near(
    allowed: torch.Tensor | None, hidden: torch.Tensor, past: int, window: int
) -> torch.Tensor | None:
    """What is allowed within the last `window` positions; 0 = everywhere."""
    total = past + hidden.shape[1]
    if not window or total <= window:
        return allowed
    key = torch.arange(total, device=hidden.device)
    query = key[past:, None]
    near = (key > query - window)[None, None]
    return near & (key <= query if allowed is None else allowed)
