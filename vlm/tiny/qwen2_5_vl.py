"""Toy model of Qwen2.5-VL, in the layout of the published config.json."""

from __future__ import annotations

from typing import Any

from . import qwen
from .toy import Tiny


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json."""
    vision = qwen.vision_config("qwen2_5_vl") | {
        "hidden_size": qwen.VISION,
        "intermediate_size": 2 * qwen.VISION,
        "out_hidden_size": width,
        "window_size": 112,
        "fullatt_block_indexes": [1, 3],
        "tokens_per_second": 2,
        "patch_size": 14,
        "hidden_act": "silu",
        "in_chans": 3,
    }
    top = qwen.top_config("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", ids)
    return top | qwen.qwen2_text(width, layers, ids) | {"vision_config": vision}


TINY = Tiny(tiny_config, qwen.OLD_NAMES, qwen.qwen2_head, qwen.qwen2_files("Qwen2_5_VLProcessor"))
