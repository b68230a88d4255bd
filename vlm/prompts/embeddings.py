"""Embeddings that a prompt names: trained vectors that stand for tokens (textual inversion)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..files.tensor_file import SAFETENSORS, check_storage, read_tensor_file
from ..finite import is_finite
from ..quoted import told

Folders = str | Path | Sequence[str | Path]
_ENDINGS = (SAFETENSORS, ".pt", ".bin")  # tried in this order behind a name that is no file
# Of A1111's files; of several embeddings that came together, as ComfyUI reads them.
_INVERSION, _BUNDLE = "string_to_param", "bundle_emb."


def find_embedding(
    name: str, source: Folders | Mapping[str, torch.Tensor], key: str, width: int
) -> torch.Tensor | None:
    """The vectors of an embedding, found as ComfyUI finds them (comfy/sd1_clip.py, `load_embed`).

    Args:
        name: As it is typed; a file below a folder, with or without its ending.
        source: Folders, whose own folders are looked through too, or name to tensor.
        key: What ComfyUI calls the text encoder: a file with several embeddings has one for each.
        width: Of the VLM's tokens.

    Returns:
        [n, D] in float32 on the CPU; None = there is none of that name.

    Raises:
        ValueError: Vectors of another width, NaN or Inf, or a file that cannot be read.
    """
    if isinstance(source, Mapping):
        found = source.get(name)
    else:
        file = _find_file(name, [source] if isinstance(source, str | Path) else source)
        found = None if file is None else _vectors_in(file, key, width)
    return None if found is None else _checked(found, name, width)


def _find_file(name: str, folders: Sequence[str | Path]) -> Path | None:
    """The file of that name below one of these folders; a name never leads out of them."""
    for folder in _with_subfolders(folders):
        path = os.path.abspath(os.path.join(folder, name))
        if os.path.abspath(folder) not in map(str, Path(path).parents):
            continue  # also the folder itself, whose name with an ending is beside it
        for ending in ("", *_ENDINGS):
            if os.path.isfile(path + ending):
                return Path(path + ending)
    return None


def _with_subfolders(folders: Sequence[str | Path]) -> Iterator[str]:
    """The folders in their order, and those below each of them by name."""
    for folder in folders:
        yield str(folder)
        seen = set()
        for root, below, _ in os.walk(folder, followlinks=True):
            below.sort()
            real = os.path.realpath(root)
            if real in seen:  # a link that leads up
                below.clear()
            else:
                seen.add(real)
                yield root


def _vectors_in(file: Path, key: str, width: int) -> Any:
    """The vectors in a file, whichever of the known layouts it has."""
    held = read_tensor_file(file)
    tensors = {str(n): each for n, each in enumerate(_tensors(held))}
    check_storage(tensors, file)
    if isinstance(held, Mapping) and isinstance(held.get(_INVERSION), Mapping):
        return next(iter(held[_INVERSION].values()), held)
    if isinstance(held, list):
        fit = [t.reshape(-1, width) for t in tensors.values() if t.ndim and t.shape[-1] == width]
        return torch.cat(fit) if fit else next(iter(tensors.values()), held)
    if not isinstance(held, Mapping):
        return held
    if key in held:
        return held[key]
    for ending in (f".{_INVERSION}.*", f".{key}"):
        names = [name for name in held if str(name).startswith(_BUNDLE)]
        bundle = [held[name] for name in names if name.endswith(ending)]
        if bundle and all(isinstance(one, torch.Tensor) and one.ndim for one in bundle):
            same = {(one.dtype, one.shape[1:]) for one in bundle}
            return torch.cat(bundle) if len(same) == 1 else bundle
    return next(iter(held.values()), held)


def _tensors(held: Any, depth: int = 3) -> Iterator[torch.Tensor]:
    """The tensors in mappings and lists, so deep as layouts have them."""
    if isinstance(held, torch.Tensor):
        yield held
    elif isinstance(held, Mapping | list) and depth:
        for one in held.values() if isinstance(held, Mapping) else held:
            yield from _tensors(one, depth - 1)


def _checked(found: Any, name: str, width: int) -> torch.Tensor:
    """Vectors [n, D] in float32.

    Raises:
        ValueError: They are none, of another width, or not finite.
    """
    called, remove = told(f"embedding:{name}"), "or take its name out of the prompt"
    if not (isinstance(found, torch.Tensor) and found.is_floating_point() and found.numel()):
        raise ValueError(
            f"{called} holds no vectors. Expected a tensor of floating point numbers, one row for "
            f"each token. Take another file, {remove}."
        )
    if not found.ndim or found.shape[-1] != width:
        raise ValueError(
            f"{called} is {found.shape[-1] if found.ndim else 1} wide, the tokens of this VLM are "
            f"{width} wide. Take an embedding that was trained for this text encoder, {remove}."
        )
    if not is_finite(found):
        raise ValueError(
            f"{called} holds NaN or Inf. Finite numbers were expected. Download it again, {remove}."
        )
    return found.detach().to("cpu", torch.float32).reshape(-1, width)
