"""Qwen2.5-VL: as Qwen2-VL, with temporal positions in absolute time."""

from __future__ import annotations

from typing import Any

from ..pictures.preprocessor import read_patch_preprocessor
from . import chat_templates, qwen_vision
from .decoder import Decoder
from .family import Family, SingleFileDefaults, VisionAdapter
from .qwen2_vl import HEAD_DIM, PREPROCESSOR, TEXT


def time_step(seconds: float, vision_config: Any) -> float:
    """Temporal positions a grid step takes: seconds times the config's tokens per second."""
    return seconds * vision_config.tokens_per_second


# Source: config.json of Qwen/Qwen2.5-VL-3B-, 7B-, 32B- and 72B-Instruct.
SINGLE_FILE = SingleFileDefaults(
    sizes={2048: ("3B", 36), 3584: ("7B", 28), 5120: ("32B", 64), 8192: ("72B", 80)},
    text=TEXT | {"max_position_embeddings": 128000},
    text_nested=False,
    head_dim=HEAD_DIM,
    vision={
        "num_heads": 16,
        "spatial_merge_size": 2,
        "hidden_act": "silu",
        "window_size": 112,
        "tokens_per_second": 2,
    },
    towers={1280: {"depth": 32, "fullatt_block_indexes": [7, 15, 23, 31]}},
    preprocessor=PREPROCESSOR,
)

FAMILY = Family(
    title="Qwen2.5-VL",
    model_type="qwen2_5_vl",
    architecture="Qwen2_5_VLForConditionalGeneration",
    chat_template=chat_templates.QWEN2,
    decoder=Decoder(mrope=True),
    vision=VisionAdapter(
        ("visual",),
        qwen_vision.vision_features,
        read_patch_preprocessor,
        qwen_vision.use_patch_embed,
        video_time_step=time_step,
    ),
    single_file=SINGLE_FILE,
)
