"""Toy model of Qwen2.5-VL, in the layout of the published config.json."""

from __future__ import annotations

from typing import Any

from . import qwen
from .toy import Tiny


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json."""
    vision = qwen.qwen2_5_vision("qwen2_5_vl", width) | {"tokens_per_second": 2}
    top = qwen.top_config("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", ids)
    return top | qwen.qwen2_text(width, layers, ids) | {"vision_config": vision}


TINY = Tiny(tiny_config, qwen.OLD_NAMES, qwen.qwen2_head, qwen.qwen2_files("Qwen2_5_VLProcessor"))
