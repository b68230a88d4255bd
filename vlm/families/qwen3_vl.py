"""Qwen3-VL (dense): DeepStack, interleaved M-RoPE, video frames between lines with their time."""

from __future__ import annotations

from ..pictures.preprocessor import read_patch_preprocessor
from . import chat_templates, qwen_vision
from .decoder import Decoder
from .family import Family, SingleFileDefaults, VisionAdapter


def frame_text(frame: int, seconds: float) -> str:
    """The line before a group of video frames."""
    return f"<{seconds:.1f} seconds>"


# Source: config.json of Qwen/Qwen3-VL-2B-, 4B-, 8B- and 32B-Instruct.
SINGLE_FILE = SingleFileDefaults(
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
    chat_template=chat_templates.QWEN3,
    decoder=Decoder(mrope=True),
    vision=VisionAdapter(
        ("visual",),
        qwen_vision.vision_features,
        read_patch_preprocessor,
        qwen_vision.use_patch_embed,
        frame_text=frame_text,
    ),
    single_file=SINGLE_FILE,
)
