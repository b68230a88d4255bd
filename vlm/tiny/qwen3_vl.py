"""Toy model of Qwen3-VL, in the layout of the published config.json."""

from __future__ import annotations

from typing import Any

from . import qwen
from .toy import Tiny


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json."""
    text = qwen.text_config(width, layers, ids) | qwen.QWEN3_TEXT
    text |= {"model_type": "qwen3_vl_text", "rope_scaling": qwen.QWEN3_ROPE}
    return qwen.top_config("qwen3_vl", "Qwen3VLForConditionalGeneration", ids) | {
        "tie_word_embeddings": True,
        "text_config": text,
        "vision_config": qwen.qwen3_vision("qwen3_vl", width, layers),
    }


TINY = Tiny(tiny_config, qwen.NEW_NAMES, files=qwen.qwen3_files())
