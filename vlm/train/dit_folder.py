"""Diffusion models, their VAE and their schedule out of folders that diffusers wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..files.json_file import read_json
from ..load import DTYPES
from ..quoted import reason
from ..weights.safetensors_header import read_header
from .dit import DITS, Dit

TRANSFORMER, VAE, SCHEDULER = "transformer", "vae", "scheduler"
_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def load_dit(folder: Path, device: torch.device, dtype: str, checkpointing: bool = False) -> Dit:
    """Loads a diffusion model, frozen; a gradient still flows through it.

    Args:
        folder: Of a diffusers pipeline, or of its transformer alone.
        device: Where it runs.
        dtype: Of its weights by name; auto = as its files say.
        checkpointing: Computes its blocks again in the backward instead of keeping them.

    Raises:
        FileNotFoundError: No such folder, or one without a transformer.
        ValueError: A model of another kind, or one that cannot be read.
    """
    _need_folder(folder)
    place = folder / TRANSFORMER
    if not place.is_dir():
        place = folder
    config = place / "config.json"
    if not config.is_file():
        raise FileNotFoundError(_lacks(folder, [TRANSFORMER]))
    kind = str(read_json(config).get("_class_name", "nothing"))
    if kind not in DITS:
        raise ValueError(
            f"{place} holds {kind[:60]}, training runs through {' or '.join(DITS)}. Name the "
            "folder of FLUX.1 or Z-Image (dit)."
        )
    model = _read(kind, place, dtype).to(device).eval().requires_grad_(False)
    if checkpointing:
        model.enable_gradient_checkpointing()
    return DITS[kind](model)


def load_vae(folder: Path, device: torch.device, dtype: str) -> tuple[Any, Any]:
    """Loads what turns pictures into latents, frozen, and the schedule of the noise.

    Args:
        folder: Of a diffusers pipeline.
        device: Where it runs.
        dtype: Of its weights by name; auto = as its files say.

    Returns:
        An AutoencoderKL and a FlowMatchEulerDiscreteScheduler.

    Raises:
        FileNotFoundError: A part is missing.
        ValueError: One cannot be read.
    """
    _need_folder(folder)
    missing = [part for part in (VAE, SCHEDULER) if not (folder / part).is_dir()]
    if missing:
        raise FileNotFoundError(_lacks(folder, missing))
    vae = _read("AutoencoderKL", folder / VAE, dtype).to(device).eval().requires_grad_(False)
    return vae, _read("FlowMatchEulerDiscreteScheduler", folder / SCHEDULER, "")


def _need_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} (dit). Name a diffusers pipeline's.")


def _lacks(folder: Path, parts: list[str]) -> str:
    return (
        f"{folder} lacks {', '.join(parts)}. Name the folder of a whole pipeline as diffusers "
        "saves it (dit)."
    )


def _read(kind: str, place: Path, dtype: str) -> Any:
    """A model or, without a dtype, a scheduler."""
    import diffusers

    more: dict[str, Any] = {}
    try:
        if dtype:
            chosen = DTYPES.get(dtype) or _stored_dtype(place)
            more = {"torch_dtype": chosen, "use_safetensors": True}
        return getattr(diffusers, kind).from_pretrained(str(place), local_files_only=True, **more)
    except Exception as error:  # what a damaged part ends in depends on the part
        raise ValueError(
            f"{place.name} in {place.parent} cannot be read ({reason(error)}). Download that "
            "part again."
        ) from error


def _stored_dtype(place: Path) -> torch.dtype:
    """The dtype of most of a folder's weights; diffusers has no `auto`."""
    sizes: dict[str, int] = {}
    for file in place.glob("*.safetensors"):
        for entry in read_header(file).entries.values():
            sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.size
    return _STORED.get(max(sizes, key=lambda name: sizes[name], default=""), torch.float32)
