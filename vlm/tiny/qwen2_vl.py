"""Toy model of Qwen2-VL, in the layout of the published config.json."""

from __future__ import annotations

from typing import Any

from . import qwen
from .toy import Tiny


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json."""
    own: dict[str, Any] = {"embed_dim": qwen.VISION, "hidden_size": width, "mlp_ratio": 2}
    own |= {"patch_size": 14, "hidden_act": "quick_gelu", "in_chans": 3}
    vision = qwen.vision_config("qwen2_vl") | own
    top = qwen.top_config("qwen2_vl", "Qwen2VLForConditionalGeneration", ids)
    return top | qwen.qwen2_text(width, layers, ids) | {"vision_config": vision}


TINY = Tiny(tiny_config, qwen.OLD_NAMES, qwen.qwen2_head, qwen.qwen2_files("Qwen2VLProcessor"))
