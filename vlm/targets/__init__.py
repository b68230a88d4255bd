"""The diffusion models that can read a conditioning: what each one's text encoder gave it."""

from __future__ import annotations

from ..quoted import told
from .flux import FLUX1, FLUX2, FLUX3
from .qwen_image import QWEN_IMAGE
from .qwen_vl import KREA2, OTHERS, Z_IMAGE
from .target import Target

__all__ = ["TARGETS", "Target", "find_target"]

CHAT = Target(
    name="chat",
    title="no particular model",
    encoder="-",
    template="chat",
    layers=(-1,),
    source="the tokenizer's own chat template, the last layer",
)

TARGETS: dict[str, Target] = {
    row.name: row for row in (*Z_IMAGE, *FLUX2, *FLUX3, *KREA2, *QWEN_IMAGE, *OTHERS, *FLUX1, CHAT)
}


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    if name not in TARGETS:
        raise ValueError(f"There is no target {told(name)}. Choose one of: {', '.join(TARGETS)}.")
    return TARGETS[name]
