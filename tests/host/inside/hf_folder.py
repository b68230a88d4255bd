"""A Hugging Face folder with the weights of a tiny CLIP, configured as its family publishes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import comfy.text_encoders
import torch
from pack.vlm.families import FAMILIES
from safetensors.torch import save_file
from tiny_clips import DEEPSTACK, KINDS, POSITIONS, QWEN2_VISION, QWEN3_VISION

IDS = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}
TEXT = {
    "intermediate_size": 96, "num_key_value_heads": 1, "hidden_act": "silu", "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True, "dtype": "float32", "bos_token_id": 151643,
    "eos_token_id": 151645,
}  # fmt: skip
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def qwen3_vl_config(layers: int) -> dict[str, Any]:
    """config.json of Qwen3-VL, with the tiny tower of `tiny_clips`."""
    width = KINDS["krea2"].width
    text = TEXT | {
        "model_type": "qwen3_vl_text", "hidden_size": width, "num_attention_heads": 2,
        "vocab_size": 151936, "num_hidden_layers": layers,
        "head_dim": 128, "max_position_embeddings": 262144, "rope_theta": 5000000.0,
        "attention_bias": False,
        "rope_scaling": {
            "rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20],
        },
    }  # fmt: skip
    vision = QWEN3_VISION | {
        "model_type": "qwen3_vl", "num_heads": 2, "in_channels": 3, "patch_size": 16,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": width,
        "num_position_embeddings": POSITIONS, "deepstack_visual_indexes": DEEPSTACK,
        "hidden_act": "gelu_pytorch_tanh",
    }  # fmt: skip
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl",
        "text_config": text, "vision_config": vision, "tie_word_embeddings": True, **IDS,
    }  # fmt: skip


def qwen2_5_vl_config(layers: int) -> dict[str, Any]:
    """config.json of Qwen2.5-VL, with the tiny tower of `tiny_clips`."""
    width = KINDS["qwen-image"].width
    text = TEXT | {
        "hidden_size": width, "num_attention_heads": 1, "vocab_size": 152064,
        "num_hidden_layers": layers,
        "max_position_embeddings": 128000, "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    }  # fmt: skip
    vision = {
        "hidden_size": QWEN2_VISION["hidden_size"], "depth": QWEN2_VISION["num_layers"],
        "num_heads": QWEN2_VISION["num_heads"], "fullatt_block_indexes": [1],
        "intermediate_size": QWEN2_VISION["intermediate_size"], "out_hidden_size": width,
        "hidden_act": "silu", "in_chans": 3, "patch_size": 14, "spatial_patch_size": 14,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
        "tokens_per_second": 2, "model_type": "qwen2_5_vl",
    }  # fmt: skip
    return text | {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
        "vision_config": vision, **IDS,
    }  # fmt: skip


def qwen3_config(layers: int) -> dict[str, Any]:
    """config.json of Qwen3, the text encoder of Z-Image and FLUX.2 klein."""
    return TEXT | {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False,
        "hidden_size": KINDS["z-image"].width, "num_attention_heads": 2, "head_dim": 128,
        "vocab_size": 151936, "num_hidden_layers": layers, "max_position_embeddings": 40960,
        "rope_theta": 1000000.0, "rope_scaling": None, "use_sliding_window": False,
    }  # fmt: skip


def qwen3_5_config(layers: int) -> dict[str, Any]:
    """config.json of Qwen3.5, with the tiny tower of `tiny_clips`."""
    base = qwen3_vl_config(layers)
    kinds = ["full_attention" if (i + 1) % 4 == 0 else "linear_attention" for i in range(layers)]
    text = base["text_config"] | {
        "model_type": "qwen3_5_text", "vocab_size": 248320, "head_dim": 256,
        "layer_types": kinds, "full_attention_interval": 4, "attn_output_gate": True,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_value_head_dim": 128, "mamba_ssm_dtype": "float32",
        "bos_token_id": None, "eos_token_id": 248046,
        "rope_parameters": {
            "mrope_interleaved": True, "mrope_section": [11, 11, 10],
            "partial_rotary_factor": 0.25, "rope_theta": 10000000.0, "rope_type": "default",
        },
    }  # fmt: skip
    for name in ("rope_scaling", "rope_theta"):
        text.pop(name)
    vision = base["vision_config"] | {"model_type": "qwen3_5", "deepstack_visual_indexes": []}
    ids = {"image_token_id": 248056, "video_token_id": 248057, "vision_start_token_id": 248053,
           "vision_end_token_id": 248054}  # fmt: skip
    return base | ids | {
        "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5",
        "text_config": text, "vision_config": vision,
    }  # fmt: skip


def write_folder(folder: Path, kind: str, weights: dict[str, torch.Tensor], layers: int) -> Path:
    """Writes the folder.

    Args:
        folder: Made here.
        kind: `krea2` (Qwen3-VL), `qwen3.5` (whose tokenizer lies elsewhere), `qwen-image`
            (Qwen2.5-VL), `z-image` or `klein` (Qwen3).
        weights: By their native names: `model.` and `visual.`, as Qwen2.5-VL is published.
        layers: Decoder layers.
    """
    folder.mkdir(parents=True)
    picture = {"temporal_patch_size": 2, "merge_size": 2}
    if kind in ("krea2", "qwen3.5"):
        config = qwen3_vl_config(layers) if kind == "krea2" else qwen3_5_config(layers)
        renamed = {"model.": "model.language_model.", "visual.": "model.visual."}
        weights = {_renamed(name, renamed): tensor for name, tensor in weights.items()}
        picture |= {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        picture |= {"size": {"shortest_edge": 65536, "longest_edge": 16777216}}
        moving = picture | {"size": {"shortest_edge": 4096, "longest_edge": 25165824}}
        moving |= {"video_processor_type": "Qwen3VLVideoProcessor"}
    elif kind != "qwen-image":
        config, picture, moving = qwen3_config(layers), None, None
    else:
        config = qwen2_5_vl_config(layers)
        picture |= {"patch_size": 14, "image_mean": CLIP_MEAN, "image_std": CLIP_STD}
        picture |= {"min_pixels": 3136, "max_pixels": 12845056}
        moving = None
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    files = {
        "config.json": config,
        "preprocessor_config.json": picture,
        "video_preprocessor_config.json": moving,
    }
    for name, content in files.items():
        if content is None:
            continue
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    tokenizer = Path(comfy.text_encoders.__path__[0]) / "qwen25_tokenizer"
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer / name, folder / name)
    # ComfyUI's template knows no pictures: that of the text-only models came with the files.
    settings = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = FAMILIES[config["model_type"]].chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _renamed(name: str, prefixes: dict[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name[len(old) :]
    raise ValueError(f"{name} is no name of a native text encoder")
