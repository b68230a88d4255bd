"""Qwen3-VL with experts (30B-A3B, 235B-A22B): as Qwen3-VL, and its feed-forward is a mixture."""

from __future__ import annotations

import inspect
from typing import Any

from . import chat_templates, qwen3_vl
from .decoder import Decoder
from .family import Family


class MixtureDecoder(Decoder):
    """Its layers hold every token once for each expert that it goes through."""

    def layer_bytes(self, text: Any, tokens: int, itemsize: int) -> int:
        """See `Decoder.layer_bytes`."""
        config = text.config
        # Experts that are given the weights of all of them (transformers 4.57) run all of them for
        # every token, and drop what was not wanted.
        experts = next(layer.mlp.experts for layer in text.layers if hasattr(layer.mlp, "experts"))
        all_run = "routing_weights" in inspect.signature(type(experts).forward).parameters
        experts = config.num_experts if all_run else config.num_experts_per_tok
        inner = 3 * config.hidden_size + 4 * config.moe_intermediate_size
        return tokens * itemsize * (experts * inner + 4 * config.hidden_size)


FAMILY = Family(
    title="Qwen3-VL-MoE",
    model_type="qwen3_vl_moe",
    architecture="Qwen3VLMoeForConditionalGeneration",
    chat_template=chat_templates.QWEN3,
    decoder=MixtureDecoder(mrope=True),
    vision=qwen3_vl.FAMILY.vision,
)
