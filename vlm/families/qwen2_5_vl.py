"""Qwen2.5-VL: as Qwen2-VL, with temporal positions in absolute time."""

from __future__ import annotations

from typing import Any

from . import chat_templates
from .family import Family, features_only


def time_step(seconds: float, vision_config: Any) -> float:
    """Temporal positions a grid step takes: seconds times the config's tokens per second."""
    return seconds * vision_config.tokens_per_second


FAMILY = Family(
    title="Qwen2.5-VL",
    model_type="qwen2_5_vl",
    architecture="Qwen2_5_VLForConditionalGeneration",
    unpack_vision=features_only,
    chat_template=chat_templates.QWEN2,
    video_time_step=time_step,
)
