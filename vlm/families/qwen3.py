"""Qwen3: the text-only language model that Z-Image and FLUX.2 klein were trained on."""

from . import chat_templates
from .family import Family

FAMILY = Family(
    title="Qwen3",
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    chat_template=chat_templates.QWEN3,
)
