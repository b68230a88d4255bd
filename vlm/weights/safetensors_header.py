"""The header of a safetensors file: names, dtypes and shapes, without touching a weight."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.tensor_file import MOST_DIMENSIONS, need_names
from ..quoted import reason

LARGEST = 100_000_000  # bytes of a header; the format's own limit
_LENGTH = 8  # bytes before the header, which say how long it is


@dataclass(frozen=True)
class Entry:
    """One tensor as the header tells it.

    Attributes:
        dtype: The format's own name, such as `BF16` or `F8_E4M3`.
        shape: Its shape.
        start: Its first byte, counted from the end of the header.
        size: Its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        entries: Tensors by name.
        metadata: Its `__metadata__`.
        data: Where the weights begin: the first byte behind the header.
    """

    entries: dict[str, Entry]
    metadata: dict[str, str]
    data: int


def read_header(file: Path) -> Header:
    """Reads the header alone: eight bytes of length, then JSON.

    Source: the format's description in the safetensors repository.

    Raises:
        ValueError: Not a safetensors file.
    """
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(_LENGTH))
            if length > min(LARGEST, os.fstat(stream.fileno()).st_size):
                raise ValueError("no header")
            content = json.loads(stream.read(length))
        metadata = content.pop("__metadata__", None) or {}
        entries = {name: _entry(**one) for name, one in content.items()}
    except (
        OSError, struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError
    ) as error:  # fmt: skip
        raise ValueError(
            f"{file} is not a whole safetensors file ({reason(error)}). Download it again."
        ) from error
    need_names(list(entries), file)
    return Header(entries, metadata, _LENGTH + length)


def _entry(dtype: Any, shape: Any, data_offsets: Any) -> Entry:
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise ValueError("a tensor's dtype is no text, or its shape no list")
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape)} dimensions")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("a tensor's shape holds what is no size")
    start, stop = data_offsets
    if type(start) is not int or type(stop) is not int or not 0 <= start <= stop:
        raise ValueError("a tensor's data_offsets are no first and last byte")
    return Entry(dtype, tuple(shape), start, stop - start)
