"""What the tensors of a checkpoint are called, and which family they are.

Several layouts are about: transformers' present one (`model.language_model.*`, `model.visual.*`),
its older one (`model.layers.*` beside `visual.*`; ComfyUI's text encoder files have it too),
`language_model.model.*`, and bare `layers.*` of language models. Ours is `language_model.*` for the
language model, and for what sees or hears the names of transformers' base model: `visual.*`, or the
modules that the family's adapters list. Layouts that only one family has are its `Family.prefixes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from ..families import FAMILIES, Family, family_of
from ..quoted import told

LANGUAGE, VISUAL = "language_model.", "visual."
_PARTS = ("layers.", "embed_tokens.", "norm.")  # of a language model
_NEVER_RUN = ("lm_head.", "model.lm_head.", "language_model.lm_head.", "thinker.lm_head.")
# What other files that lie in the same folders are called by, in the order to ask.
_OTHERS = (
    ("audio_tower.", "a VLM whose whole folder is needed"),
    ("multi_modal_projector.", "a VLM whose whole folder is needed"),
    ("connector.modality_projection.", "a VLM whose whole folder is needed"),
    (".lora_", "a LoRA"),
    ("encoder.block.", "a T5 text encoder"),
    ("text_model.encoder.layers.", "a CLIP text encoder"),
    ("transformer.resblocks.", "a CLIP text encoder"),
    ("vision_model.", "another vision model"),
    ("linear_attn.", "a Qwen3.5 or Qwen3-Next model"),
    ("diffusion_model.", "a diffusion model"),
    ("double_blocks.", "a diffusion model"),
    ("transformer_blocks.", "a diffusion model"),
    ("joint_blocks.", "a diffusion model"),
    ("noise_refiner.", "a diffusion model"),
    ("input_blocks.", "a diffusion model"),
    ("decoder.conv_in.", "a VAE"),
    ("decoder.up", "a VAE"),
)


def our_name(name: str, family: Family | None = None) -> str | None:
    """A tensor's name with us; None for what is not part of a base model.

    The names that a version of transformers gives its own tensors are one of the layouts.
    The LM head is never run, and rotary frequencies are computed.

    Args:
        name: In a file, or in a model of transformers.
        family: Whose tensor it is; None = not known yet, any family's.
    """
    if name.startswith(_NEVER_RUN) or name.endswith(".inv_freq"):
        return None
    for theirs, ours in _renamed(None if family is None else family.model_type):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return None


@cache
def _renamed(model_type: str | None) -> tuple[tuple[str, str], ...]:
    """Beginnings of names, theirs and ours, in the order to try them."""
    families = FAMILIES.values() if model_type is None else (FAMILIES[model_type],)
    hearing = (family.audio.modules for family in families if family.audio is not None)
    pairs = (
        *(pair for family in families for pair in family.prefixes),
        ("language_model.model.", LANGUAGE),
        *((part, part) for part in (LANGUAGE, *_seeing(), *_beginnings(hearing))),
        *((part, LANGUAGE + part) for part in _PARTS),
    )
    return tuple(
        (more + theirs, ours) for theirs, ours in dict(pairs).items() for more in ("", "model.")
    )


@cache
def _seeing() -> tuple[str, ...]:
    """How the names of vision towers' tensors begin, in any family."""
    return _beginnings(one.vision.modules for one in FAMILIES.values() if one.vision is not None)


def _beginnings(towers: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """How the names of tensors in some modules begin."""
    return tuple(dict.fromkeys(f"{module}." for modules in towers for module in modules))


def find_model_type(names: Iterable[str]) -> str | None:
    """`model_type` of the family that a file's tensors belong to; None where it is none of ours.

    Args:
        names: Of its tensors, in any layout.
    """
    ours = {our_name(name) for name in names}
    if f"{LANGUAGE}layers.0.input_layernorm.weight" not in ours:
        return None
    if f"{VISUAL}patch_embed.proj.weight" not in ours or _has_experts(names):
        return None
    if f"{VISUAL}deepstack_merger_list.0.norm.weight" in ours:
        return "qwen3_vl"
    if f"{VISUAL}blocks.0.attn.qkv.weight" not in ours:
        return None
    if f"{VISUAL}blocks.0.mlp.gate_proj.weight" in ours:
        return "qwen2_5_vl"
    return "qwen2_vl" if f"{VISUAL}blocks.0.mlp.fc1.weight" in ours else None


def find_family(names: Iterable[str], where: str) -> Family:
    """The family that a file's tensors belong to.

    Args:
        names: Of its tensors, in any layout.
        where: The file, for the message.

    Raises:
        ValueError: None that the pack runs; says what the file seems to be instead.
    """
    names = sorted(names)
    found = find_model_type(names)
    if found is not None:
        return family_of(found, where)
    ours = {our_name(name) for name in names}
    if f"{LANGUAGE}layers.0.input_layernorm.weight" in ours and not any(
        name and name.startswith(_seeing()) for name in ours
    ):
        raise ValueError(
            f"{where} is a language model without a vision tower (it has {_some(names)}, but no "
            "visual.* tensors): it cannot see. For text alone load it with ComfyUI's Load CLIP and "
            "VLM From CLIP (Qwen3-4B and 8B: `dtype` auto there); for pictures choose a Qwen-VL "
            "file."
        )
    raise ValueError(
        f"{where} is not a VLM file that this pack reads, but {_what(names)}: it has "
        f"{_some(names)}. "
        "Expected are the tensors of Qwen2-VL, Qwen2.5-VL or Qwen3-VL: model.layers.* or "
        "model.language_model.* with visual.* or model.visual.*. Choose such a file, or the whole "
        "folder of another model."
    )


def _has_experts(names: Iterable[str]) -> bool:
    return any(".mlp.experts." in name for name in names)


def _what(names: list[str]) -> str:
    if not names:
        return "an empty file"
    if _has_experts(names):
        return "a mixture of experts"
    kinds = (what for key, what in _OTHERS if any(key in name for name in names))
    return next(kinds, "something else")


def _some(names: list[str]) -> str:
    """The first names and how many there are, for a message."""
    if not names:
        return "no tensors"
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"the tensors {', '.join(map(told, names[:2]))}{more}"
