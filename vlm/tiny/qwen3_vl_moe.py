"""Toy model of Qwen3-VL with experts, in the layout of the published config.json."""

from __future__ import annotations

from typing import Any

from . import qwen
from .toy import Tiny

EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "router_aux_loss_coef": 0.001,
}


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json, as the published ones have it."""
    text = qwen.text_config(width, layers, ids) | qwen.QWEN3_TEXT | EXPERTS
    text |= {"model_type": "qwen3_vl_moe_text", "rope_scaling": qwen.QWEN3_ROPE}
    text["tie_word_embeddings"] = False
    top = qwen.top_config("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", ids)
    return top | {
        "tie_word_embeddings": False,
        "text_config": text,
        "vision_config": qwen.qwen3_vision("qwen3_vl_moe", width, layers),
    }


TINY = Tiny(tiny_config, qwen.NEW_NAMES, files=qwen.qwen3_files())
