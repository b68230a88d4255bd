"""Toy model of Qwen3, in the layout of the published config.json."""

from __future__ import annotations

from typing import Any

from . import qwen
from .toy import Tiny


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json."""
    text = qwen.text_config(width, layers, ids) | qwen.QWEN3_TEXT
    top = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "float32"}
    return top | text


TINY = Tiny(tiny_config, {"language_model.": "model."})
