"""Qwen2-VL: M-RoPE whose temporal position counts frames; CLIP's pixel statistics, patch 14."""

from . import chat_templates
from .family import Family, features_only

FAMILY = Family(
    title="Qwen2-VL",
    model_type="qwen2_vl",
    architecture="Qwen2VLForConditionalGeneration",
    unpack_vision=features_only,
    chat_template=chat_templates.QWEN2,
)
