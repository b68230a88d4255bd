"""Qwen3.5: three of four layers are linear attention; Qwen3-VL's tower without DeepStack.

Linear attention (Gated DeltaNet) keeps one state that every token changes, not keys and values of
each token: it remembers a prompt's beginning only as what it was at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from . import chat_templates, qwen3_vl
from .decoder import Decoder
from .family import Family
from .layer_cache import Pair


@dataclass(frozen=True)
class MixedDecoder(Decoder):
    """Full attention takes a mask of pairs of tokens, linear attention one of tokens."""

    def mask(
        self, text: Any, allowed: torch.Tensor | None, hidden: torch.Tensor, past: int
    ) -> dict[str, torch.Tensor | None]:
        """Masks by the kind of layer; the last token sees every one that is no pad token."""
        real = None if allowed is None else allowed[:, 0, -1, past:]
        return {"full_attention": allowed, "linear_attention": real}

    def arguments(self, text: Any, layer: int, rotary: Any, mask: Any) -> dict[str, Any]:
        """The mask of the layer's kind."""
        return super().arguments(text, layer, rotary, mask[text.config.layer_types[layer]])

    def growing_cache(self, text: Any, room: int, past: Pair | None) -> Any:
        """transformers' own, which knows both kinds of layers; there is no past (no prefix)."""
        from transformers import DynamicCache

        return DynamicCache(config=text.config)

    def layer_bytes(self, text: Any, tokens: int, itemsize: int) -> int:
        """Linear attention computes in float32, in pieces of 64 tokens and with their states."""
        config = text.config
        values = config.linear_num_value_heads * config.linear_value_head_dim
        return 4 * values * (18 * tokens + 4 * config.linear_key_head_dim)


FAMILY = Family(
    title="Qwen3.5",
    model_type="qwen3_5",
    architecture="Qwen3_5ForConditionalGeneration",
    chat_template=chat_templates.QWEN3_5,
    decoder=MixedDecoder(mrope=True, reuses_prefix=False),
    vision=qwen3_vl.FAMILY.vision,
    # Else the template opens the thinking of the answer, which takes thousands of tokens.
    chat_settings={"enable_thinking": False},
    transformers="5.16",  # before, pad tokens in front changed the state of what follows
)
