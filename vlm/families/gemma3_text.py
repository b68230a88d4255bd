"""Gemma 3 1B and 270M: text only."""

from .family import Family
from .gemma3 import FAMILY as GEMMA3
from .gemma3 import IMAGE

FAMILY = Family(
    title="Gemma 3 (text only)",
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    chat_template=GEMMA3.chat_template,
    decoder=GEMMA3.decoder,
    stop_tokens=GEMMA3.stop_tokens,
    pad_tokens=GEMMA3.pad_tokens,
    spare_tokens=(IMAGE,),  # the tokenizer is that of the models with eyes
)
