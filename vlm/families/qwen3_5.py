"""Qwen3.5: three of four layers are linear attention; Qwen3-VL's tower without DeepStack.

Linear attention (Gated DeltaNet) keeps one state that every token changes, not keys and values of
each token: it remembers a prompt's beginning only as what it was at its end.
"""

from __future__ import annotations

import sys
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

    def prepare(self, text: Any) -> None:
        """Has pad tokens leave no trace in linear attention.

        Before transformers 5.16 its layers ignored their mask where one prompt runs alone, as here.
        """
        for layer in text.layers:
            if hasattr(layer, "linear_attn"):
                layer.linear_attn.register_forward_pre_hook(_blank_pads, with_kwargs=True)

    def mask(
        self, text: Any, allowed: torch.Tensor | None, hidden: torch.Tensor, past: int
    ) -> dict[str, torch.Tensor | None]:
        """Masks by the kind of layer; the last token sees every one that is no pad token."""
        real = None if allowed is None else allowed[:, 0, -1, past:]
        return {"full_attention": allowed, "linear_attention": real}

    def arguments(self, text: Any, layer: int, rotary: Any, mask: Any) -> dict[str, Any]:
        """The mask of the layer's kind."""
        return super().arguments(text, layer, rotary, mask[text.config.layer_types[layer]])

    def growing_cache(self, text: Any, room: int, past: Pair | None, before: Any) -> Any:
        """transformers' own for all layers, which knows both kinds; there is no past (no prefix).

        Its class is the one that the file of the language model makes by itself.
        """
        if before is not None:
            return before
        names = vars(sys.modules[type(text).__module__])
        own = next((names[name] for name in names if name.endswith("DynamicCache")), None)
        if own is None:
            raise AttributeError(f"{type(text).__module__} makes no DynamicCache.")
        return own(config=text.config)

    def layer_bytes(self, text: Any, tokens: int, itemsize: int) -> int:
        """Linear attention computes in float32, in pieces of 64 tokens and with their states."""
        config = text.config
        values = config.linear_num_value_heads * config.linear_value_head_dim
        return 4 * values * (18 * tokens + 4 * config.linear_key_head_dim)


def _blank_pads(module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Zeros what enters linear attention at pad tokens."""
    real, hidden = kwargs.get("attention_mask"), kwargs.get("hidden_states")
    if real is None or hidden is None:
        return args, kwargs
    return args, {**kwargs, "hidden_states": hidden * real[..., None].to(hidden.dtype)}


FAMILY = Family(
    title="Qwen3.5",
    model_type="qwen3_5",
    architecture="Qwen3_5ForConditionalGeneration",
    chat_template=chat_templates.QWEN3_5,
    decoder=MixedDecoder(mrope=True, reuses_prefix=False),
    vision=qwen3_vl.FAMILY.vision,
    # Else the template opens the thinking of the answer, which takes thousands of tokens.
    chat_settings={"enable_thinking": False},
)
