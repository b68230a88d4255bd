"""What the toy models of the Qwen families have in common, in the published layout."""

from __future__ import annotations

from typing import Any

VISION = 32  # width of the vision tower, 2 heads of 16
CLIP_LOOK = {
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "min_pixels": 3136,
    "max_pixels": 12845056,
}
QWEN3_LOOK = {
    "patch_size": 16,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
QWEN3_TEXT = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "attention_bias": False,
    "rope_theta": 5000000.0,
    "tie_word_embeddings": True,
}
QWEN3_ROPE = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}


def text_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """What the language models' configs have in common."""
    return {
        "vocab_size": embedding_rows(ids),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "use_cache": True,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
    }


def embedding_rows(ids: dict[str, int]) -> int:
    """Rows of an embedding table for these ids: a multiple of 64."""
    return -(-(max(ids.values()) + 1) // 64) * 64


def top_config(model_type: str, architecture: str, ids: dict[str, int]) -> dict[str, Any]:
    """What the Qwen-VL models' configs begin with."""
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "torch_dtype": "float32",
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def vision_config(model_type: str) -> dict[str, Any]:
    """What the Qwen-VL towers' configs have in common."""
    return {
        "model_type": model_type,
        "depth": 4,
        "num_heads": 2,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }


def qwen2_5_vision(model_type: str, width: int) -> dict[str, Any]:
    """The tower of Qwen2.5-VL, and of Qwen2.5-Omni."""
    return vision_config(model_type) | {
        "hidden_size": VISION,
        "intermediate_size": 2 * VISION,
        "out_hidden_size": width,
        "window_size": 112,
        "fullatt_block_indexes": [1, 3],
        "patch_size": 14,
        "hidden_act": "silu",
        "in_chans": 3,
    }


def qwen3_vision(model_type: str, width: int, layers: int) -> dict[str, Any]:
    """The tower of Qwen3-VL, dense and with experts."""
    return vision_config(model_type) | {
        "hidden_size": VISION,
        "intermediate_size": 2 * VISION,
        "out_hidden_size": width,
        "patch_size": 16,
        "in_channels": 3,
        "hidden_act": "gelu_pytorch_tanh",
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": list(range(min(3, layers))),
    }


def qwen3_files() -> dict[str, dict[str, Any]]:
    """Preprocessor files of Qwen3-VL with the published numbers."""
    look = QWEN3_LOOK | {"processor_class": "Qwen3VLProcessor"}
    image = {"size": {"longest_edge": 16777216, "shortest_edge": 65536}}
    video = {"size": {"longest_edge": 25165824, "shortest_edge": 4096}}
    kinds = {"image_processor_type": "Qwen2VLImageProcessorFast"}
    films = {"video_processor_type": "Qwen3VLVideoProcessor"}
    return {
        "preprocessor_config.json": look | image | kinds,
        "video_preprocessor_config.json": look | video | films,
    }


def qwen2_files(processor: str) -> dict[str, dict[str, Any]]:
    """Preprocessor files of Qwen2-VL and Qwen2.5-VL with the published numbers."""
    look = CLIP_LOOK | {"processor_class": processor}
    video = {"min_pixels": 128 * 28 * 28, "max_pixels": 768 * 28 * 28}
    kinds = {"image_processor_type": "Qwen2VLImageProcessor"}
    films = {"video_processor_type": "Qwen2VLVideoProcessor"}
    return {
        "preprocessor_config.json": look | kinds,
        "video_preprocessor_config.json": look | video | films,
    }


def qwen2_head(width: int) -> int:
    """Width of an attention head of Qwen2's language models."""
    # Their heads fill the width: many heads of 16 would be slow when the width is a real one.
    return 128 if width >= 1024 else 16


def qwen2_text(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Language model of Qwen2-VL and Qwen2.5-VL."""
    head = qwen2_head(width)
    heads = width // head
    sections = [head // 8, 3 * head // 16, 3 * head // 16]
    return text_config(width, layers, ids) | {
        "num_attention_heads": heads,
        "num_key_value_heads": 1 if heads % 2 else 2,
        "intermediate_size": 128,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": sections},
        "use_sliding_window": False,
        "sliding_window": 32768,
        "max_window_layers": layers,
        "tie_word_embeddings": False,
    }


OLD_NAMES = {"language_model.": "model.", "visual.": "visual."}
NEW_NAMES = {"language_model.": "model.language_model.", "visual.": "model.visual."}
