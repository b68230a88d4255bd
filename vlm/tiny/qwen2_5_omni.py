"""Toy model of Qwen2.5-Omni's thinker, in the layout of the published files."""

from __future__ import annotations

from typing import Any

from ..families import qwen2_5_omni as omni
from . import qwen, qwen_tokenizer
from .toy import Tiny

AUDIO = 32  # width of the audio tower, 2 heads of 16
# Qwen2.5's special tokens with other names for what is not text, in their order.
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", omni.AUDIO, omni.AUDIO_START, omni.AUDIO_END,
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", omni.START, omni.END, "<|vision_pad|>",
    omni.IMAGE, omni.VIDEO,
)  # fmt: skip
NAMED = {
    "image_token": omni.IMAGE,
    "audio_token": omni.AUDIO,
    "video_token": omni.VIDEO,
    "vision_bos_token": omni.START,
    "vision_eos_token": omni.END,
    "audio_bos_token": omni.AUDIO_START,
    "audio_eos_token": omni.AUDIO_END,
}
SOUNDS = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128,
    "sampling_rate": 16000,
    "hop_length": 160,
    "chunk_length": 300,
    "n_fft": 400,
    "n_samples": 4800000,
    "nb_max_frames": 30000,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
}


def make_tokenizer() -> dict[str, Any]:
    """Content of tokenizer.json."""
    return qwen_tokenizer.make_tokenizer(SPECIAL, qwen_tokenizer.ORDINARY[:8])


def _audio(width: int) -> dict[str, Any]:
    return {
        "model_type": "qwen2_5_omni_audio_encoder",
        "num_mel_bins": 128,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * AUDIO,
        "d_model": AUDIO,
        "activation_function": "gelu",
        "max_source_positions": 1500,
        "n_window": 100,
        "output_dim": width,
        "scale_embedding": False,
    }


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json, as Qwen2.5-Omni-3B has it; without the voice."""
    text = qwen.qwen2_text(width, layers, ids)
    text |= {"model_type": "qwen2_5_omni_text", "torch_dtype": "float32"}
    text["rope_scaling"] |= {"type": "default", "rope_type": "default"}
    vision = qwen.qwen2_5_vision("qwen2_5_omni_vision_encoder", width)
    thinker = {
        "architectures": ["Qwen2_5OmniNaViTThinkerForConditionalGeneration"],
        "model_type": omni.TYPE,
        "torch_dtype": "float32",
        "audio_token_index": ids[omni.AUDIO],
        "image_token_index": ids[omni.IMAGE],
        "video_token_index": ids[omni.VIDEO],
        "audio_start_token_id": ids[omni.AUDIO_START],
        "audio_end_token_id": ids[omni.AUDIO_END],
        "vision_start_token_id": ids[omni.START],
        "vision_end_token_id": ids[omni.END],
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "position_id_per_seconds": 25,
        "seconds_per_chunk": 2,
        "tie_word_embeddings": False,
        "text_config": text,
        "vision_config": vision | {"spatial_patch_size": 14, "in_channels": 3},
        "audio_config": _audio(width),
    }
    return {
        "architectures": ["Qwen2_5OmniModel"],
        "model_type": "qwen2_5_omni",
        "torch_dtype": "float32",
        "enable_audio_output": False,
        omni.PART: thinker,
    }


LOOK = qwen.qwen2_files("Qwen2_5OmniProcessor")["preprocessor_config.json"]

TINY = Tiny(
    tiny_config,
    {
        "language_model.": "thinker.model.",
        "lm_head.": "thinker.lm_head.",
        "visual.": "thinker.visual.",
        "audio_tower.": "thinker.audio_tower.",
    },
    qwen.qwen2_head,
    files={"preprocessor_config.json": LOOK | SOUNDS},
    tokenizer=make_tokenizer,
    tokenizer_config={
        "additional_special_tokens": list(SPECIAL[1:]),
        "extra_special_tokens": NAMED,
        **NAMED,
    },
)
