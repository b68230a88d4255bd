"""Qwen3-VL (dense): DeepStack, interleaved M-RoPE, video frames between lines with their time."""

from __future__ import annotations

from typing import Any

import torch

from . import chat_templates
from .family import Family


def unpack_vision(output: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Features and DeepStack features of one picture, on transformers 4.57 and 5.x."""
    if hasattr(output, "deepstack_features"):
        deepstack = [torch.cat(tuple(level)) for level in output.deepstack_features]
        return torch.cat(tuple(output.pooler_output)), deepstack
    features, deepstack = output
    return torch.cat(tuple(features)), list(deepstack)


FAMILY = Family(
    title="Qwen3-VL",
    model_type="qwen3_vl",
    architecture="Qwen3VLForConditionalGeneration",
    unpack_vision=unpack_vision,
    chat_template=chat_templates.QWEN3,
    timed_frames=True,
)
