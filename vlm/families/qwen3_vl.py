"""Qwen3-VL (dense): DeepStack, interleaved M-RoPE, video frames between lines with their time."""

from __future__ import annotations

from typing import Any

import torch

from . import chat_templates
from .family import Family, Published


def unpack_vision(output: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Features and DeepStack features of one picture, on transformers 4.57 and 5.x."""
    if hasattr(output, "deepstack_features"):
        deepstack = [torch.cat(tuple(level)) for level in output.deepstack_features]
        return torch.cat(tuple(output.pooler_output)), deepstack
    features, deepstack = output
    return torch.cat(tuple(features)), list(deepstack)


# Source: config.json of Qwen/Qwen3-VL-2B-, 4B-, 8B- and 32B-Instruct.
PUBLISHED = Published(
    sizes={2048: ("2B", 28), 2560: ("4B", 36), 4096: ("8B", 36), 5120: ("32B", 64)},
    text={
        "model_type": "qwen3_vl_text",
        "hidden_act": "silu",
        "attention_bias": False,
        "rms_norm_eps": 1e-6,
        "rope_theta": 5000000.0,
        "rope_scaling": {
            "rope_type": "default",
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
        "max_position_embeddings": 262144,
    },
    text_nested=True,
    head_dim=128,
    vision={"num_heads": 16, "spatial_merge_size": 2, "hidden_act": "gelu_pytorch_tanh"},
    towers={
        1024: {"depth": 24, "deepstack_visual_indexes": [5, 11, 17]},
        1152: {"depth": 27, "deepstack_visual_indexes": [8, 16, 24]},
    },
    preprocessor={},
)

FAMILY = Family(
    title="Qwen3-VL",
    model_type="qwen3_vl",
    architecture="Qwen3VLForConditionalGeneration",
    unpack_vision=unpack_vision,
    chat_template=chat_templates.QWEN3,
    timed_frames=True,
    published=PUBLISHED,
)
