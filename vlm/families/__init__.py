"""The families the pack can run: one file each, listed here."""

from ..quoted import told
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
from .family import AudioAdapter, Family, VisionAdapter

__all__ = ["FAMILIES", "AudioAdapter", "Family", "VisionAdapter", "family_of"]

FAMILIES: dict[str, Family] = {
    module.FAMILY.model_type: module.FAMILY
    for module in (
        qwen2_vl,
        qwen2_5_vl,
        qwen2_5_omni,
        qwen3_vl,
        qwen3_vl_moe,
        qwen3_5,
        internvl,
        gemma3,
        gemma3_text,
        llava_onevision,
        smolvlm,
        qwen3,
        llama,
    )
}


def family_of(model_type: str | None, where: str) -> Family:
    """Finds the family of a `model_type`.

    Args:
        model_type: As config.json says it.
        where: What holds that config.json, for the message.

    Raises:
        ValueError: A family that the pack does not run.
    """
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    known = ", ".join(f"{family.title} ({name})" for name, family in FAMILIES.items())
    raise ValueError(
        f"{where} holds a model of the type {told(model_type)}, which this pack cannot run. "
        f"It runs {known}. Choose a folder with one of these."
    )
