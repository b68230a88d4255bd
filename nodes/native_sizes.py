"""Which single files ComfyUI's own loader of text encoders reads whole.

It tells models apart by names and a few sizes, then builds one of fixed sizes and reads what fits,
whatever is missing; so it is given only files of the sizes that it builds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from comfy import sd

from ..vlm.families import FAMILIES
from ..vlm.weights import fp8
from ..vlm.weights.safetensors_header import Entry
from ..vlm.weights.single_file import config_beside
from ..vlm.weights.tensor_names import find_model_type

_NORM = re.compile(r"(?:^|\.)layers\.(\d+)\.input_layernorm\.weight$")
_PUBLISHED = ("model.language_model.", "model.visual.")  # the parts, as Hugging Face names them
_SEEING = ("visual.", "model.visual.", "vision_model.", "vision_tower.", "model.vision_tower.")


@dataclass(frozen=True)
class Size:
    """A text encoder that ComfyUI builds.

    Attributes:
        family: `model_type` of its family with us.
        width: Of its language model.
        layers: Decoder layers.
        sees: Whether it is built with a vision tower.
    """

    family: str
    width: int
    layers: int
    sees: bool = True


# By the name of ComfyUI's TEModel: the configs of comfy/text_encoders/llama.py and qwen35.py.
SIZES = {
    "QWEN25_7B": Size("qwen2_5_vl", 3584, 28),
    "QWEN3_4B": Size("qwen3", 2560, 36, sees=False),
    "QWEN3_8B": Size("qwen3", 4096, 36, sees=False),
    "QWEN3VL_4B": Size("qwen3_vl", 2560, 36),
    "QWEN3VL_8B": Size("qwen3_vl", 4096, 36),
    "QWEN3VL_32B": Size("qwen3_vl", 5120, 50),  # cut, as MiniMax H3 reads it
    "QWEN35_08B": Size("qwen3_5", 1024, 24),
    "QWEN35_2B": Size("qwen3_5", 2048, 24),
    "QWEN35_4B": Size("qwen3_5", 2560, 32),
    "QWEN35_9B": Size("qwen3_5", 4096, 32),
    "QWEN35_27B": Size("qwen3_5", 5120, 64),
}


def is_read_by_comfyui(file: Path, entries: Mapping[str, Entry]) -> bool:
    """Whether ComfyUI's loader reads all of a file's model.

    Args:
        file: A safetensors file. With a config.json of its own it is another model than those that
            ComfyUI knows, and the library reads it.
        entries: Its tensors.
    """
    size = SIZES.get(_name_there(entries))
    if size is None or _shape(entries) != ((size.width,), size.layers):
        return False
    if not size.sees:
        return not any(name.startswith(_SEEING) for name in entries)
    # Its towers add to these in the dtype of the file, which torch does not do in fp8.
    if any(name.endswith("pos_embed.weight") and entries[name].dtype in fp8.DTYPES
           for name in entries):  # fmt: skip
        return False
    published = [any(name.startswith(part) for name in entries) for part in _PUBLISHED]
    if len(set(published)) > 1:  # half of it is named in another way, and would be left out
        return False
    if size.family != "qwen3_5" and find_model_type(entries) != size.family:
        return False
    return config_beside(file, FAMILIES[size.family]) is None


def _name_there(entries: Mapping[str, Entry]) -> str:
    """What ComfyUI's TEModel calls it; "" = nothing, also where a version has no such question."""
    detect = getattr(sd, "detect_te_model", None)
    try:
        return getattr(detect(entries) if detect else None, "name", "")
    except (AttributeError, LookupError):  # it reads sizes of tensors that a file need not have
        return ""


def _shape(entries: Mapping[str, Entry]) -> tuple[tuple[int, ...], int]:
    """Shape of a norm of the language model, and how many decoder layers there are."""
    norms = {int(match[1]): name for name in entries if (match := _NORM.search(name))}
    return (entries[norms[0]].shape if 0 in norms else ()), len(norms)
