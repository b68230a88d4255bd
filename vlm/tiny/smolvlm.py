"""Toy model of SmolVLM, in the layout of the published files."""

from __future__ import annotations

from typing import Any

from ..families.smolvlm import AROUND, IMAGE, WHOLE
from . import qwen
from .qwen_tokenizer import make_tokenizer
from .toy import Tiny

# A quarter of the published tile, as many of them.
TILE, PATCH, SCALE = 128, 16, 2
LONGEST = 4 * TILE
PLACES = tuple(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7))
END = "<end_of_utterance>"
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", WHOLE, *PLACES, AROUND, IMAGE, END)
NAMED = {
    "end_of_utterance_token": END,
    "fake_image_token": AROUND,
    "global_image_token": WHOLE,
    "image_token": IMAGE,
}


def tiny_tokenizer() -> dict[str, Any]:
    """Content of tokenizer.json: GPT-2's split, single digits."""
    content = make_tokenizer(SPECIALS, ())
    content["normalizer"] = None
    split = content["pre_tokenizer"]["pretokenizers"]
    split[0] = {"type": "Digits", "individual_digits": True}
    split[1]["use_regex"] = True
    return content


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json, as SmolVLM2-500M-Video-Instruct has it."""
    return {
        "architectures": ["SmolVLMForConditionalGeneration"],
        "model_type": "smolvlm",
        "torch_dtype": "float32",
        "image_token_id": ids[IMAGE],
        "scale_factor": SCALE,
        "tie_word_embeddings": False,
        "text_config": {
            "architectures": ["VLlama3ForCausalLM"],
            "model_type": "llama",
            "vocab_size": qwen.embedding_rows(ids),
            "hidden_size": width,
            "intermediate_size": 128,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100000.0,
            "tie_word_embeddings": False,
            "bos_token_id": ids["<|im_start|>"],
            "eos_token_id": ids[END],
            "pad_token_id": ids["<|im_end|>"],
        },
        "vision_config": {
            "model_type": "smolvlm_vision",
            "hidden_size": qwen.VISION,
            "image_size": TILE,
            "intermediate_size": 2 * qwen.VISION,
            "num_attention_heads": 2,
            "num_hidden_layers": 4,
            "patch_size": PATCH,
        },
    }


TINY = Tiny(
    tiny_config,
    {
        "language_model.": "model.text_model.",
        "vision_model.": "model.vision_model.",
        "connector.": "model.connector.",
    },
    files={
        "preprocessor_config.json": {
            "do_convert_rgb": True,
            "do_image_splitting": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5] * 3,
            "image_processor_type": "SmolVLMImageProcessor",
            "image_std": [0.5] * 3,
            "max_image_size": {"longest_edge": TILE},
            "processor_class": "SmolVLMProcessor",
            "resample": 1,
            "rescale_factor": 1 / 255,
            "size": {"longest_edge": LONGEST},
        },
        "processor_config.json": {
            "image_seq_len": (TILE // PATCH // SCALE) ** 2,
            "processor_class": "SmolVLMProcessor",
        },
    },
    tokenizer=tiny_tokenizer,
    tokenizer_config={
        "additional_special_tokens": [AROUND, IMAGE, END],
        "bos_token": "<|im_start|>",
        "eos_token": END,
        "extra_special_tokens": NAMED,
        **NAMED,
        "pad_token": "<|im_end|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<|endoftext|>",
    },
)
