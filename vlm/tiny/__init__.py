"""Built-in toy models: one file a family, listed here by `model_type`."""

from . import (
    gemma3,
    gemma3_text,
    internvl,
    llama,
    llava_onevision,
    qwen2_5_omni,
    qwen2_5_vl,
    qwen2_vl,
    qwen3,
    qwen3_5,
    qwen3_vl,
    qwen3_vl_moe,
    smolvlm,
)
from .toy import Tiny

__all__ = ["TOYS", "Tiny"]

TOYS: dict[str, Tiny] = {
    "qwen2_vl": qwen2_vl.TINY,
    "qwen2_5_vl": qwen2_5_vl.TINY,
    "qwen2_5_omni": qwen2_5_omni.TINY,
    "qwen3_vl": qwen3_vl.TINY,
    "qwen3_vl_moe": qwen3_vl_moe.TINY,
    "qwen3_5": qwen3_5.TINY,
    "internvl": internvl.TINY,
    "gemma3": gemma3.TINY,
    "gemma3_text": gemma3_text.TINY,
    "llava_onevision": llava_onevision.TINY,
    "smolvlm": smolvlm.TINY,
    "qwen3": qwen3.TINY,
    "llama": llama.TINY,
}
