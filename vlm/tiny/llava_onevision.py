"""Toy model of LLaVA-OneVision, in the layout of the published files."""

from __future__ import annotations

from typing import Any

from ..families.llava_onevision import IMAGE, VIDEO
from . import qwen, qwen_tokenizer
from .toy import Tiny

# A quarter of the published tile, which is no multiple of the patch either.
TILE, PATCH = 96, 14
GRIDS = [[TILE * rows, TILE * cols] for rows in range(1, 7) for cols in range(1, 7)]
SPECIALS = (*qwen_tokenizer.SPECIAL[:3], IMAGE, VIDEO)


def make_tokenizer() -> dict[str, Any]:
    """Content of tokenizer.json: Qwen2's, and two tokens more."""
    return qwen_tokenizer.make_tokenizer(SPECIALS, ())


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json, as llava-onevision-qwen2-7b-ov-hf has it."""
    heads = width // qwen.qwen2_head(width)
    text = qwen.text_config(width, layers, ids) | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "num_attention_heads": heads,
        "num_key_value_heads": 1 if heads % 2 else 2,
        "intermediate_size": 128,
        "max_window_layers": layers,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
    }
    return {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "torch_dtype": "float32",
        "image_grid_pinpoints": GRIDS,
        "image_token_index": ids[IMAGE],
        "video_token_index": ids[VIDEO],
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": False,
        "use_image_newline_parameter": True,
        "vision_aspect_ratio": "anyres_max_9",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "text_config": text,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": qwen.VISION,
            "image_size": TILE,
            "intermediate_size": 2 * qwen.VISION,
            "num_attention_heads": 2,
            "num_hidden_layers": 4,
            "patch_size": PATCH,
            "vision_use_head": False,
        },
    }


TINY = Tiny(
    tiny_config,
    {
        "language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "vision_tower.": "vision_tower.vision_model.",
        "multi_modal_projector.": "multi_modal_projector.",
        "image_newline": "image_newline",
    },
    qwen.qwen2_head,
    files={
        "preprocessor_config.json": {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_grid_pinpoints": GRIDS,
            "image_mean": [0.5] * 3,
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "image_std": [0.5] * 3,
            "processor_class": "LlavaOnevisionProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": TILE, "width": TILE},
        },
        "processor_config.json": {
            "image_token": IMAGE,
            "num_image_tokens": (TILE // PATCH) ** 2,
            "processor_class": "LlavaOnevisionProcessor",
            "video_token": VIDEO,
            "vision_feature_select_strategy": "full",
        },
    },
    tokenizer=make_tokenizer,
    tokenizer_config={"additional_special_tokens": list(SPECIALS[1:3])},
)
