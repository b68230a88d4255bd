"""Files of trained weights: a state dict out of safetensors, or out of PyTorch's own format.

PyTorch's format is a pickle, which can run code as it is read. It is read here only with
`weights_only=True`, which knows tensors and plain containers and refuses everything else.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..files.whole_file import write_whole
from ..finite import is_finite

SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth", ".bin")
# Where checkpoints keep the state dict, and what wrappers of a module put before its keys.
_CONTAINERS = ("state_dict", "model", "module", "connector", "proj")
_PREFIXES = ("module.", "_orig_mod.")
# The part of a diffusion model's checkpoint that is a connector: the rest of it is not read.
_PART = "txtfusion."
_DEEPEST = 8  # containers around a state dict
_MOST_SHARED = 4  # times that tensors may take what their file does: tied weights are there once
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # a zip as torch.save writes it; its older format


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, without the container and the prefixes around them.

    Args:
        path: A .safetensors, .pt, .pth or .bin file; a bare state dict, or one inside a container
            such as `{"config": ..., "state_dict": ...}`.

    Returns:
        Name to tensor, on the CPU, in the dtype of the file, in memory of their own.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another kind of file, one named as another kind, one that is cut short, one
            that would run code, or one without tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Name a file that is there.")
    ending = path.suffix.lower()
    if ending not in (SAFETENSORS, *PICKLES):
        raise ValueError(
            f"{path.name} has the ending {path.suffix or '(none)'}; weights are read from "
            f"{SAFETENSORS}, {', '.join(PICKLES)}. Download the file with one of these."
        )
    _check_kind(path, ending)
    found = _read_safetensors(path) if ending == SAFETENSORS else _read_pickle(path)
    tensors = _plain(found, path.name)
    _check_storage(tensors, path)
    return tensors


def write_state_dict(
    tensors: Mapping[str, torch.Tensor],
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors as safetensors, whole or not at all: an older file stays until then.

    Args:
        tensors: Name to tensor; each keeps its dtype.
        path: The file, in a folder that exists. One of the same name is replaced.
        metadata: Of the file; None = only that PyTorch wrote it.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: Another ending than .safetensors.
        OSError: The file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != SAFETENSORS:
        raise ValueError(f"{path.name} does not end in {SAFETENSORS}. Give OUT that ending.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} does not exist. Make it first.")
    # Tensors that share memory, as tied weights do, get their own: safetensors refuses them.
    own = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    write_whole(path, save(own, dict(metadata or {"format": "pt"})))


def _check_kind(path: Path, ending: str) -> None:
    """Compares what the file starts with with what its name says."""
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise ValueError(f"{path.name} is empty. Download it again.")
    pickled = start.startswith(_PICKLE_STARTS)
    # safetensors begin with the header's length, eight bytes, and the header's brace.
    if ending == SAFETENSORS and pickled and start[8:9] != b"{":
        raise ValueError(
            f"{path.name} is named {SAFETENSORS} but is a PyTorch file. Rename it to .pt, or "
            f"convert it: python -m vlm convert {path.stem}.pt {path.name}"
        )
    if ending != SAFETENSORS and start[8:9] == b"{" and not pickled:
        raise ValueError(
            f"{path.name} is named {ending} but is a safetensors file. Rename it to "
            f"{path.stem}{SAFETENSORS}."
        )


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            names = [name for name in names if _PART in name] or names
            # Cloned: what safe_open gives may lie in the file itself, which can be overwritten.
            return {name: file.get_tensor(name).clone() for name in names}
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is not a whole safetensors file ({error}). The download was cut short "
            "or the file is something else; download it again."
        ) from error


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name} holds more than tensors and plain data, or is damaged "
            f"({_first_line(error)}). Such a file can run code as it is read, so it was refused "
            "and nothing of it was run. Take the weights as safetensors from their publisher."
        ) from error
    except Exception as error:  # what a damaged pickle ends in depends on where it was damaged
        raise ValueError(
            f"{path.name} is not a whole PyTorch file ({_first_line(error)}). The download was "
            "cut short or the file is something else; download it again."
        ) from error


def _plain(found: Any, name: str) -> dict[str, torch.Tensor]:
    """The state dict inside what was read."""
    for _ in range(_DEEPEST):  # a pickle can hold itself
        if not isinstance(found, Mapping) or _holds_tensors(found):
            break
        inner = [found[key] for key in _CONTAINERS if isinstance(found.get(key), Mapping)]
        if not inner:
            break
        found = inner[0]
    if not isinstance(found, Mapping) or not _holds_tensors(found):
        kind = "a dict" if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(
            f"{name} holds {kind} without tensors. Expected a state dict, bare or as "
            '{"config": ..., "state_dict": ...}; download the weights, not the configuration.'
        )
    tensors = {str(key): value for key, value in found.items() if isinstance(value, torch.Tensor)}
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _check_storage(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Compares what tensors say of themselves with what their file holds, before they are computed.

    A pickle of a few hundred bytes can hold a tensor of any size: one number seen many times.

    Raises:
        ValueError: A sparse tensor, one without data, or more numbers than are in the file.
    """
    for key, value in tensors.items():
        if value.layout != torch.strided or value.is_meta:
            kind = "has no data" if value.is_meta else "is sparse"
            raise ValueError(
                f"{path.name}: {key} {kind}, weights are dense. Use the file that its publisher "
                "released."
            )
    size, most = sum(value.nbytes for value in tensors.values()), _MOST_SHARED * path.stat().st_size
    if size > most:
        raise ValueError(
            f"{path.name} takes {path.stat().st_size} bytes, but its tensors say they take {size}. "
            "It is damaged, or made to fill the memory; use the file that its publisher released."
        )


def _holds_tensors(found: Mapping) -> bool:
    return any(isinstance(value, torch.Tensor) for value in found.values())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def check_values(weights: Mapping[str, torch.Tensor], name: str) -> None:
    """Checks that trained weights are finite floating point numbers.

    Raises:
        ValueError: One is not.
    """
    for key, value in weights.items():
        if not value.is_floating_point():
            raise ValueError(
                f"{name}: {key} is {str(value.dtype).removeprefix('torch.')}, weights are floating "
                "point. Use the file that its publisher released."
            )
        if not is_finite(value):
            raise ValueError(f"{name}: {key} holds NaN or Inf. Download the file again.")
