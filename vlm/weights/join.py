"""Shards of one model, written as the one safetensors file that ComfyUI loads.

Bytes go from file to file in pieces, so that memory holds one piece whatever the size. A run that
was ended goes on where it last synced, if its sources are the same and what it wrote still is.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from ..files.json_file import read_json
from ..files.units import GIGABYTE, MEGABYTE
from ..files.whole_file import write_whole
from .shards import ENDING, StoredTensor, find_shards

PIECE = 16 * MEGABYTE  # bytes read and written at once
SYNC = 256 * MEGABYTE  # bytes between two marks that a later run can go on from
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Joined:
    """What was written.

    Attributes:
        tensors: How many.
        size: Bytes of the file.
        resumed: Bytes that an earlier run had written.
    """

    tensors: int
    size: int
    resumed: int


@dataclass
class _Mark:
    """How far a run came: what it joins, bytes synced and their CRC-32."""

    sources: str
    done: int = 0
    crc: int = 0


def join_shards(source: Path, result: Path, progress: Progress | None = None) -> Joined:
    """Joins the shards of a model, in their own dtypes and under their own names.

    Args:
        source: Folder or index, as `find_shards` takes them. ComfyUI reads diffusers' names of
            FLUX.1 by itself.
        result: The `.safetensors` file to write; one of that name is replaced at the end. Until
            then `NAME.joining` lies beside it, which a later call goes on from.
        progress: Called with bytes done and bytes of all.

    Raises:
        FileNotFoundError: A shard, the source or the result's folder is missing.
        ValueError: A damaged source, no `.safetensors` name, or one of the shards is the result.
        OSError: Not enough room, or it cannot be written.
    """
    tensors = _aligned(find_shards(source))
    _check_result(result, tensors)
    header = _header(tensors)
    total = len(header) + sum(tensor.size for tensor in tensors)
    part, marks = (result.with_name(f"{result.name}.joining{end}") for end in ("", ".json"))
    mark = _go_on_from(part, marks, _identity(tensors, header))
    resumed = mark.done
    _check_room(result, total - resumed)
    try:
        with part.open("r+b" if resumed else "wb") as out:
            out.truncate(resumed)
            out.seek(resumed)
            _write(out, header, tensors, mark, marks, lambda done: _tell(progress, done, total))
        os.replace(part, result)
        marks.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{result} could not be written ({error.strerror}). Is the disk full? The same command "
            "goes on from where it stopped.",
        ) from error
    return Joined(len(tensors), total, resumed)


def _aligned(tensors: Sequence[StoredTensor]) -> list[StoredTensor]:
    """Wider dtypes first, so that every tensor begins at a multiple of its element's size."""
    return sorted(tensors, key=lambda tensor: -_element_size(tensor))


def _element_size(tensor: StoredTensor) -> int:
    count = 1
    for size in tensor.shape:
        count *= size
    return tensor.size // count if count else 0


def _check_result(result: Path, tensors: Sequence[StoredTensor]) -> None:
    if result.suffix.lower() != ENDING or result.is_dir():
        raise ValueError(f"{result} is not a file name that ends in {ENDING}. Name the new file.")
    if not result.parent.is_dir():
        raise FileNotFoundError(f"{result.parent} is not a folder. Make it first.")
    if any(result.exists() and result.samefile(tensor.file) for tensor in tensors):
        raise ValueError(f"{result} is one of the shards. Write to another name.")


def _check_room(result: Path, wanted: int) -> None:
    free = shutil.disk_usage(result.parent).free
    if free < wanted:
        raise OSError(
            f"{result.parent} has {free / GIGABYTE:.1f} GB free, {wanted / GIGABYTE:.1f} GB are "
            "needed. Make room, or write to another disk."
        )


def _header(tensors: Sequence[StoredTensor]) -> bytes:
    """The new file's header, padded so that the data begins at a multiple of eight bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for tensor in tensors:
        stop = start + tensor.size
        shape = list(tensor.shape)
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": shape,
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _identity(tensors: Sequence[StoredTensor], header: bytes) -> str:
    """What tells one set of sources from another: the header, and each file's size and time."""
    files = sorted({tensor.file for tensor in tensors})
    facts = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"{zlib.crc32(header):08x} {zlib.crc32(repr(facts).encode()):08x}"


def _go_on_from(part: Path, marks: Path, sources: str) -> _Mark:
    """The mark of an earlier run, or a new one where there is none that holds."""
    try:
        known = _Mark(**read_json(marks))
        fits = known.sources == sources and part.stat().st_size >= known.done
    except (OSError, TypeError, ValueError):
        return _Mark(sources)
    return known if fits and _crc_of(part, known.done) == known.crc else _Mark(sources)


def _crc_of(file: Path, size: int) -> int:
    crc = 0
    with file.open("rb") as stream:
        while size > 0 and (piece := stream.read(min(PIECE, size))):
            crc, size = zlib.crc32(piece, crc), size - len(piece)
    return crc


def _write(
    out: BinaryIO,
    header: bytes,
    tensors: Sequence[StoredTensor],
    mark: _Mark,
    marks: Path,
    tell: Callable[[int], None],
) -> None:
    """Writes what the mark does not have yet, and moves the mark on as it is synced."""
    if not mark.done:
        out.write(header)
        mark.done, mark.crc = len(header), zlib.crc32(header)
    start, synced = len(header), mark.done
    for tensor in tensors:
        skip = min(max(mark.done - start, 0), tensor.size)
        with tensor.file.open("rb") as stream:
            stream.seek(tensor.start + skip)
            for piece in _pieces(stream, tensor, tensor.size - skip):
                out.write(piece)
                mark.done, mark.crc = mark.done + len(piece), zlib.crc32(piece, mark.crc)
                tell(mark.done)
                if mark.done - synced >= SYNC:
                    synced = _sync(out, mark, marks)
        start += tensor.size
    _sync(out, mark, marks)


def _pieces(stream: BinaryIO, tensor: StoredTensor, size: int) -> Iterator[bytes]:
    while size > 0:
        piece = stream.read(min(PIECE, size))
        if not piece:
            raise ValueError(f"{tensor.file} became shorter while it was read. Start again.")
        size -= len(piece)
        yield piece


def _sync(out: BinaryIO, mark: _Mark, marks: Path) -> int:
    out.flush()
    os.fsync(out.fileno())
    write_whole(marks, json.dumps(asdict(mark)).encode())
    return mark.done


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
