"""Toy model of Qwen3.5, in the layout of the published config.json."""

from __future__ import annotations

from typing import Any

from . import qwen
from .toy import Tiny


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json, as the published ones have it."""
    kinds = ["full_attention" if (i + 1) % 4 == 0 else "linear_attention" for i in range(layers)]
    text = qwen.text_config(width, layers, ids) | {
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
    vision = qwen.qwen3_vision("qwen3_5", width, layers) | {"deepstack_visual_indexes": []}
    top = qwen.top_config("qwen3_5", "Qwen3_5ForConditionalGeneration", ids)
    return top | {"tie_word_embeddings": True, "text_config": text, "vision_config": vision}


def norm(name: str) -> float:
    """The language model's norms add 1 to their weights, but for those of linear attention."""
    return 0.0 if ".language_model." in name and ".linear_attn." not in name else 1.0


TINY = Tiny(tiny_config, qwen.NEW_NAMES, files=qwen.qwen3_files(), norm=norm)
