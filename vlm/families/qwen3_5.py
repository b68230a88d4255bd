"""Qwen3.5: three of four layers are linear attention; Qwen3-VL's tower without DeepStack.

Linear attention (Gated DeltaNet) keeps one state that every token changes, not keys and values of
each token: it remembers a prompt's beginning only as what it was at its end.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch

from . import chat_templates, qwen3_vl, qwen_tiny
from .decoder import Decoder
from .family import Family, Tiny
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


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json, as the published ones have it."""
    kinds = ["full_attention" if (i + 1) % 4 == 0 else "linear_attention" for i in range(layers)]
    text = qwen_tiny.text_config(width, layers, ids) | {
        "model_type": "qwen3_5_text",
        "dtype": "float32",
        "attention_bias": False,
        "attn_output_gate": True,
        "full_attention_interval": 4,
        "head_dim": 32,
        "intermediate_size": 128,
        "layer_types": kinds,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_value_head_dim": 16,
        "mamba_ssm_dtype": "float32",
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [2, 1, 1],
            "partial_rotary_factor": 0.25,
            "rope_theta": 10000000.0,
            "rope_type": "default",
        },
        "tie_word_embeddings": True,
    }
    vision = qwen_tiny.qwen3_vision("qwen3_5", width, layers) | {"deepstack_visual_indexes": []}
    top = qwen_tiny.top_config("qwen3_5", "Qwen3_5ForConditionalGeneration", ids)
    return top | {"tie_word_embeddings": True, "text_config": text, "vision_config": vision}


def norm(name: str) -> float:
    """The language model's norms add 1 to their weights, but for those of linear attention."""
    return 0.0 if ".language_model." in name and ".linear_attn." not in name else 1.0


FAMILY = Family(
    title="Qwen3.5",
    model_type="qwen3_5",
    architecture="Qwen3_5ForConditionalGeneration",
    chat_template=chat_templates.QWEN3_5,
    decoder=MixedDecoder(mrope=True, reuses_prefix=False),
    vision=qwen3_vl.FAMILY.vision,
    # Else the template opens the thinking of the answer, which takes thousands of tokens.
    chat_settings={"enable_thinking": False},
    tiny=Tiny(tiny_config, qwen_tiny.NEW_NAMES, files=qwen_tiny.qwen3_files(), norm=norm),
)
