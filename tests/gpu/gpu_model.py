"""A VLM with Qwen3-VL-4B's proportions, random weights and a quarter of its decoder layers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch


def config_of(tokenizer) -> dict:
    """Qwen3-VL-4B's config.json with a quarter of its decoder layers."""
    rope = {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    return {
        "text_config": {
            "vocab_size": 151936,
            "hidden_size": 2560,
            "intermediate_size": 9728,
            "num_hidden_layers": 9,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rope_theta": 5000000.0,
            "rope_scaling": rope,
            "tie_word_embeddings": True,
        },
        "vision_config": {
            "depth": 24,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_heads": 16,
            "out_hidden_size": 2560,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [5, 11, 17],
        },
        "image_token_id": tokenizer.id_of("<|image_pad|>"),
        "video_token_id": tokenizer.id_of("<|video_pad|>"),
        "vision_start_token_id": tokenizer.id_of("<|vision_start|>"),
        "vision_end_token_id": tokenizer.id_of("<|vision_end|>"),
        "tie_word_embeddings": True,
    }


def build(device: torch.device, dtype: torch.dtype = torch.bfloat16, host=None):
    """A VLM of that size; its weights begin on the device."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from vlm.families import family_of
    from vlm.model import VLM
    from vlm.pictures.preprocessor import read_patch_preprocessor
    from vlm.prompts.tokenizer import Tokenizer
    from vlm.running.engine import Engine
    from vlm.running.host import Host
    from vlm.running.huggingface import HuggingFaceBackbone
    from vlm.running.prefix_cache import PrefixCache
    from vlm.tiny.folder import write_tiny

    with tempfile.TemporaryDirectory() as place:
        folder = write_tiny(Path(place) / "tiny")
        tokenizer = Tokenizer(folder)
        config = Qwen3VLConfig(**config_of(tokenizer))
        rules = read_patch_preprocessor(folder, config.to_dict())
    torch.manual_seed(0)
    with device:
        made = Qwen3VLForConditionalGeneration._from_config(
            config, attn_implementation="sdpa", dtype=dtype
        )
    made = made.to(device).eval().requires_grad_(False)
    family = family_of("qwen3_vl", "the test")
    backbone = HuggingFaceBackbone(made.model, family)
    return VLM(Engine("random", family, backbone, host or Host(), PrefixCache(0)), tokenizer, rules)


def picture(side: int, seed: int = 0) -> torch.Tensor:
    """Noise, [1, side, side, 3] in 0..1."""
    return torch.rand(1, side, side, 3, generator=torch.Generator().manual_seed(seed))
