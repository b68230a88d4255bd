"""Single files on VLM Loader's way through ComfyUI's own loader, as Load CLIP takes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import comfy.sd
import torch

from ..vlm.model import VLM
from ..vlm.weights.folder import open_whole
from ..vlm.weights.lm_head import FileHead
from ..vlm.weights.safetensors_header import read_header
from ..vlm.weights.tensor_names import our_name
from .clip import HUGGING_FACE, vlm_from_clip
from .devices import text_encoder_options
from .folders import embedding_folders


def load_with_comfyui(file: Path, device: str, prefix_cache_mb: float, disk_cache_mb: int) -> VLM:
    """A VLM of a file that `is_read_by_comfyui`, with its weights as the file stores them.

    Args:
        file: A safetensors file.
        device: Choice of the node, one of DEVICES.
        prefix_cache_mb: As for VLM From CLIP.
        disk_cache_mb: Likewise.

    Raises:
        ValueError: A damaged file.
    """
    open_whole(file)
    entries = read_header(file).entries
    try:
        clip = comfy.sd.load_clip(
            [str(file)],
            embedding_directory=embedding_folders(),
            model_options=text_encoder_options(device),
        )
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"ComfyUI cannot read {file} ({said}). Download it again, or choose a dtype on VLM "
            "Loader to have it read without ComfyUI's loader."
        ) from error
    model = vlm_from_clip(
        clip, HUGGING_FACE, prefix_cache_mb, disk_cache_mb, name=file.stem, head=FileHead(file)
    )
    _check_complete(file, model, entries)
    return model


def _check_complete(file: Path, model: VLM, entries: Iterable[str]) -> None:
    """Refuses a file that lacks weights: ComfyUI warns in its log and runs on noise."""
    there = {our_name(name) for name in entries}
    names = (name for part in ("model", "visual") for name in _weights(model, part))
    missing = sorted(name for name in map(our_name, names) if name and name not in there)
    if missing:
        raise ValueError(
            f"The weights in {file} lack {len(missing)} tensors of {model.family.title}, the first "
            f"is {missing[0]}. Download the file again."
        )


def _weights(model: VLM, part: str) -> list[str]:
    """Native names of the weights of the language model or the vision tower."""
    module = model.backbone.text if part == "model" else model.backbone.visual
    return [] if module is None else [f"{part}.{name}" for name, _ in module.named_parameters()]
