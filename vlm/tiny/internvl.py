"""Toy model of InternVL, in the layout of the published files."""

from __future__ import annotations

from typing import Any

from ..families.internvl import END, IMAGE, START, VIDEO
from ..pictures import tiles
from . import qwen, qwen_tokenizer
from .toy import Tiny

# Behind the tokens of Qwen2.5's tokenizer, in their order.
ADDED = (START, END, IMAGE, "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", VIDEO)
NAMED = {
    "start_image_token": START,
    "end_image_token": END,
    "context_image_token": IMAGE,
    "video_token": VIDEO,
}


def make_tokenizer() -> dict[str, Any]:
    """Content of tokenizer.json."""
    content = qwen_tokenizer.make_tokenizer(ordinary=qwen_tokenizer.ORDINARY[:8])
    tokens = content["added_tokens"]
    for name in ADDED:
        tokens.append({**tokens[0], "id": tokens[-1]["id"] + 1, "content": name})
    return content


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json, as InternVL3-1B-hf has it."""
    heads = width // qwen.qwen2_head(width)
    text = qwen.text_config(width, layers, ids) | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "torch_dtype": "float32",
        "num_attention_heads": heads,
        "num_key_value_heads": 1 if heads % 2 else 2,
        "intermediate_size": 128,
        "max_window_layers": layers,
        "rope_theta": 1000000.0,
        "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
        "sliding_window": None,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
        "vocab_size": ids[VIDEO],  # all tokens but that one, which is never embedded
    }
    vision = {
        "architectures": ["InternVisionModel"],
        "model_type": "internvl_vision",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": qwen.VISION,
        "image_size": [448, 448],
        "initializer_range": 1e-10,
        "intermediate_size": 2 * qwen.VISION,
        "layer_norm_eps": 1e-6,
        "layer_scale_init_value": 0.1,
        "norm_type": "layer_norm",
        "num_attention_heads": 2,
        "num_channels": 3,
        "num_hidden_layers": 4,
        "patch_size": [14, 14],
        "projection_dropout": 0.0,
        "use_absolute_position_embeddings": True,
        "use_mask_token": False,
        "use_mean_pooling": True,
        "use_qk_norm": False,
    }
    return {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "torch_dtype": "float32",
        "downsample_ratio": 0.5,
        "image_seq_length": 256,
        "image_token_id": ids[IMAGE],
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": False,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "text_config": text,
        "vision_config": vision,
    }


TINY = Tiny(
    tiny_config,
    {
        "language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "vision_tower.": "vision_tower.",
        "multi_modal_projector.": "multi_modal_projector.",
    },
    qwen.qwen2_head,
    files={
        "preprocessor_config.json": {
            "crop_to_patches": False,  # the processor turns it on
            "data_format": "channels_first",
            "default_to_square": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": list(tiles.MEAN),
            "image_processor_type": "GotOcr2ImageProcessorFast",
            "image_std": list(tiles.STD),
            "max_patches": 12,
            "min_patches": 1,
            "processor_class": "InternVLProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": 448, "width": 448},
        },
        "processor_config.json": {
            "image_seq_length": 256,
            "processor_class": "InternVLProcessor",
        },
    },
    tokenizer=make_tokenizer,
    tokenizer_config={
        "additional_special_tokens": [*qwen_tokenizer.SPECIAL[1:], *ADDED],
        "extra_special_tokens": NAMED,
        **NAMED,
    },
)
