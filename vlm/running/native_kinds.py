"""Which text encoders of ComfyUI are run, told by how they are built."""

from __future__ import annotations

from typing import Any

from ..families import Family, gemma3, gemma3_text, qwen2_5_vl, qwen3, qwen3_vl
from . import native_qwen3_5
from .native import NativeBackbone
from .native_gemma3 import NativeGemma3
from .native_qwen3_5 import NativeQwen35

# Token ids of the Qwen tokenizers; a language model with fewer reads other ids.
QWEN_VOCABULARY = 151643


def kind_of_native(transformer: Any) -> tuple[Family, type[NativeBackbone]]:
    """The family of a native text encoder, and the class that runs it.

    Raises:
        ValueError: Not a model that this pack knows how to run.
    """
    text = getattr(transformer, "model", None)
    config: Any = getattr(text, "config", None)
    runs = all(hasattr(text, name) for name in ("embed_tokens", "layers", "compute_freqs_cis"))
    family = _qwen(transformer, config) if runs else None
    if family is not None:
        return family, NativeBackbone
    if runs and hasattr(config, "layer_types") and hasattr(config, "linear_num_key_heads"):
        return native_qwen3_5.FAMILY, NativeQwen35
    if runs and getattr(config, "transformer_type", "") == "gemma3":
        sees = hasattr(transformer, "vision_model")
        return (gemma3 if sees else gemma3_text).FAMILY, NativeGemma3
    raise ValueError(
        f"This CLIP is a {type(transformer).__name__}, which VLM From CLIP cannot run. It runs "
        "Qwen3-VL, Qwen2.5-VL, Qwen3.5, Gemma 3 (text and pictures) and Qwen3 (text only): in "
        "Load CLIP choose such a file, for example qwen_2.5_vl_7b_fp8_scaled.safetensors with type "
        "qwen_image, or a Qwen3-VL-4B file with type krea2. Llama 3 runs from its folder on VLM "
        "Loader."
    )


def _qwen(transformer: Any, config: Any) -> Family | None:
    """The family of those that are built as Llama is."""
    if getattr(config, "transformer_type", "") != "llama":
        return None
    visual = getattr(transformer, "visual", None)
    if visual is not None and getattr(config, "interleaved_mrope", False):
        return qwen3_vl.FAMILY
    if visual is not None and config.rope_dims is not None and config.qkv_bias:
        return qwen2_5_vl.FAMILY
    if config.q_norm and config.vocab_size > QWEN_VOCABULARY and config.rope_dims is None:
        return qwen3.FAMILY
    return None
