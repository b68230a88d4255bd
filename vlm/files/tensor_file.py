"""Files of tensors, read without running anything: safetensors, and PyTorch's own format.

PyTorch's format is a pickle, which can run code as it is read. It is read here only with
`weights_only=True`, which knows tensors and plain containers and refuses everything else.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..quoted import reason, told

SAFETENSORS = ".safetensors"
# What safetensors refuses, and what torch does of a shape such as [2**63, 0], which has no bytes.
UNREADABLE = (SafetensorError, TypeError, OverflowError, RuntimeError)
MOST_DIMENSIONS = 8  # a latent of a video has 5
PICKLES = (".pt", ".pth", ".bin")
_LONGEST_NAME = 300  # characters; Qwen3-VL's longest are 60
_MOST_SHARED = 4  # times that tensors may take what their file does: tied weights are there once
_MOST_DEFLATED = 1032  # times that deflate can shrink
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # a zip as torch.save writes it; its older format


def read_tensor_file(path: Path, choose: Callable[[list[str]], list[str]] = list) -> Any:
    """What a file holds.

    Args:
        path: A .safetensors, .pt, .pth or .bin file.
        choose: Names the tensors of a safetensors file that are wanted.

    Returns:
        Of safetensors name to tensor, in the order in which they lie; of a pickle what it holds.
        Tensors are on the CPU, in memory of their own.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another kind of file, one named as another kind, one that is cut short, or one
            that would run code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Name a file that is there.")
    ending = path.suffix.lower()
    if ending not in (SAFETENSORS, *PICKLES):
        raise ValueError(
            f"{path.name} has the ending {path.suffix or '(none)'}; weights are read from "
            f"{SAFETENSORS}, {', '.join(PICKLES)}. Download the file with one of these."
        )
    _check_kind(path, ending)
    return _read_safetensors(path, choose) if ending == SAFETENSORS else _read_pickle(path)


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
            f"convert it (python -m vlm convert {path.stem}.pt {path.name})."
        )
    if ending != SAFETENSORS and start[8:9] == b"{" and not pickled:
        raise ValueError(
            f"{path.name} is named {ending} but is a safetensors file. Rename it to "
            f"{path.stem}{SAFETENSORS}."
        )


def _read_safetensors(
    path: Path, choose: Callable[[list[str]], list[str]]
) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, "pt") as file:
            names = choose(need_names(list(getattr(file, "offset_keys", file.keys)()), path))
            # Cloned: what safe_open gives may lie in the file itself, which can be overwritten.
            return {name: file.get_tensor(name).clone() for name in names}
    except UNREADABLE as error:
        raise ValueError(
            f"{path.name} is not a whole safetensors file ({reason(error)}). The download was "
            "cut short or the file is something else; download it again."
        ) from error


def _read_pickle(path: Path) -> Any:
    try:
        _need_room(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name} holds more than tensors and plain data, or is damaged "
            f"({reason(error)}). Such a file can run code as it is read, so it was refused "
            "and nothing of it was run. Take the weights as safetensors from their publisher."
        ) from error
    except Exception as error:  # what a damaged pickle ends in depends on where it was damaged
        raise ValueError(
            f"{path.name} is not a whole PyTorch file ({reason(error)}). The download was "
            "cut short or the file is something else; download it again."
        ) from error


def _need_room(path: Path) -> None:
    """Refuses a zip with more in it than its bytes can hold: PyTorch takes that memory first.

    Raises:
        ValueError: Its entries claim so; torch.save stores them as they are.
    """
    if not zipfile.is_zipfile(path):
        return
    size = path.stat().st_size
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size * (1 if stored else _MOST_DEFLATED):
        raise ValueError(f"its entries claim {claimed} bytes, the file has {size}")


def need_names(names: list[str], path: Path) -> list[str]:
    """The names of a file's tensors, which messages and paths repeat from here on.

    Raises:
        ValueError: One is longer than any weight's, or cannot be printed.
    """
    for name in names:
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise ValueError(
                f"{path.name} holds a tensor called {told(name)}, which no model calls one. The "
                "file is damaged; use the one that its publisher released."
            )
    return names


def check_dimensions(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuses tensors of more dimensions than any; messages repeat shapes from here on.

    Raises:
        ValueError: There is one.
    """
    for key, value in tensors.items():
        if value.ndim > MOST_DIMENSIONS:
            raise ValueError(
                f"{path.name}: {key} has {value.ndim} dimensions, no more than {MOST_DIMENSIONS} "
                "were expected. The file is damaged; use the one that its publisher released."
            )


def check_storage(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Compares what tensors say of themselves with what their file holds, before they are computed.

    A pickle of a few hundred bytes can hold a tensor of any size: one number seen many times.

    Raises:
        ValueError: A sparse tensor, one without data, one of more dimensions than any, or more
            numbers than are in the file.
    """
    check_dimensions(tensors, path)
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
