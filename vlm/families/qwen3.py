"""Qwen3: the text-only language model that Z-Image and FLUX.2 klein were trained on."""

from . import chat_templates
from .family import Family, features_only

FAMILY = Family(
    title="Qwen3",
    model_type="qwen3",
    architecture="Qwen3Model",
    unpack_vision=features_only,
    chat_template=chat_templates.QWEN3,
    sees=False,
)
