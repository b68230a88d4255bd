"""Toy model of Gemma 3 without a vision tower, in the layout of the published files."""

from __future__ import annotations

import math
from typing import Any

from .gemma3 import PICTURE, TOKENIZER, norm, text_config, tiny_tokenizer
from .toy import Tiny


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json whose tokenizer knows a token more than it."""
    own = {
        "architectures": ["Gemma3ForCausalLM"],
        "torch_dtype": "float32",
        "tie_word_embeddings": True,
        "vocab_size": ids[PICTURE[2]],
    }
    return text_config(width, layers, ids) | own


TINY = Tiny(
    tiny_config,
    {"language_model.": "model."},
    tokenizer=tiny_tokenizer,
    tokenizer_config=TOKENIZER,
    norm=norm,
    embed_scale=math.sqrt,
)
