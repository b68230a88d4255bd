"""Tensors on disk by the digest of what they were made from: bounded, shared, safe to delete.

One safetensors file per key, ``vlm-<key>.safetensors``. Its metadata hold ``format`` =
``vlm_cache``, ``version`` and ``crc``, the CRC-32 of each tensor's bytes as JSON: a computer that
stops in the middle can leave a file of the right size with other bytes in it.
"""

from __future__ import annotations

import builtins
import errno
import json
import math
import os
import re
import stat
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save

from ..files.tensor_file import UNREADABLE
from ..files.units import in_bytes
from ..files.whole_file import write_whole
from ..logger import LOG
from ..quoted import told

FORMAT, VERSION = "vlm_cache", 1
STALE_SECONDS = 3600  # nothing takes as long to write: what is older was left by a killed process
_KEY = re.compile(r"[0-9a-f]{8,128}")
_ENTRY = re.compile(rf"vlm-{_KEY.pattern}\.safetensors")
_PART = re.compile(rf"\.{_ENTRY.pattern}\.[0-9a-f]{{8}}\.part")
# What a file that is not whole raises: cut short, wrong sums, metadata that are no JSON.
_DAMAGE = (*UNREADABLE, ValueError, RecursionError, AttributeError)


@dataclass(frozen=True)
class _File:
    """One of our files: when it was last used (ns since 1970), its size in bytes."""

    path: Path
    used: int
    size: int


class DiskCache:
    """A folder of tensors by key, least recently used first out.

    Other processes may use the folder at the same time, and anybody may delete it or files in it.
    A cache makes nothing fail: what cannot be read is a miss, what cannot be written is given up.
    Files of others in the folder are neither read nor deleted.

    Attributes:
        folder: Where the files lie; made when something is put.
        limit: Bytes it may hold. While something is put there can be one file more.
    """

    def __init__(self, folder: str | Path, limit_mb: float):
        """Takes the folder and the bound in MB (2**20 bytes); 0 keeps nothing.

        Raises:
            ValueError: A bound that is negative or no number.
        """
        if not (math.isfinite(limit_mb) and limit_mb >= 0):
            raise ValueError(
                f"The disk cache may hold {limit_mb} MB; a number from 0 was expected. Give the "
                "size in MB, such as 4096, or 0 to keep nothing."
            )
        self.folder = Path(folder)
        self.limit = in_bytes(limit_mb)
        self._warned = False

    @property
    def bytes(self) -> int:
        """Bytes held now, by this and other processes."""
        return sum(file.size for file in self._files(_ENTRY))

    def get(self, key: str) -> dict[str, torch.Tensor] | None:
        """The tensors of a key, which becomes the most recently used.

        Args:
            key: Digest, 8 to 128 hexadecimal digits.

        Returns:
            Tensors on the CPU in memory of their own, in the order put; None where there are none,
            or none of this version. A damaged file is deleted.

        Raises:
            ValueError: A key that is no such digest.
        """
        path = self._path(key)
        try:
            tensors = _read(path)
        except OSError:
            return None  # not there, out of reach, or no ordinary file
        except _DAMAGE:
            _remove(path)
            return None
        if tensors is not None:
            _touch(path)
        return tensors

    def put(self, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Keeps tensors, and deletes the least recently used files until the bound holds again.

        What cannot be written is given up with one warning. The file appears whole or not at all;
        an older one of the key stays until then.

        Args:
            key: As in ``get``.
            tensors: Any dtype and device.

        Raises:
            ValueError: A key that is no such digest.
        """
        path = self._path(key)
        data = _packed(tensors)
        if len(data) > self.limit:
            return
        try:
            self._write(data, path)
        except FileNotFoundError:
            return  # somebody cleared the cache meanwhile
        except OSError as error:
            self._give_up(error)
        self._make_room()

    def clear(self) -> None:
        """Deletes what the cache holds, also for other processes; nothing else in the folder."""
        for file in [*self._files(_ENTRY), *self._files(_PART)]:
            _remove(file.path)

    def _path(self, key: str) -> Path:
        """The file of a key; nothing but a digest can become a name."""
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"{told(key)} is no key of the disk cache; 8 to 128 hexadecimal digits were "
                "expected. "
                "Take the hexdigest of what the tensors were made from."
            )
        return self.folder / f"vlm-{key}.safetensors"

    def _write(self, data: builtins.bytes, path: Path) -> None:
        """Writes the file in one step, as used now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
        _touch(path)

    def _give_up(self, error: OSError) -> None:
        if self._warned:
            return
        self._warned = True
        LOG.warning(
            "VLM Conditioning cannot write to its disk cache %s (%s). Encoding goes on without; "
            "free space on the disk, make the folder writable, or choose another folder.",
            self.folder,
            error,
        )

    def _make_room(self) -> None:
        files = sorted(self._files(_ENTRY), key=lambda file: (file.used, file.path.name))
        held = sum(file.size for file in files)
        for file in files:
            if held <= self.limit:
                break
            if _remove(file.path):
                held -= file.size
        oldest = time.time_ns() - STALE_SECONDS * 10**9
        for part in self._files(_PART):
            if part.used < oldest:
                _remove(part.path)

    def _files(self, names: re.Pattern[str]) -> list[_File]:
        """Our files of these names; those that vanish while we look are left out."""
        found = []
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if names.fullmatch(entry.name):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        found.append(_File(Path(entry.path), status.st_mtime_ns, status.st_size))
        return found


def _packed(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The file's bytes. Written by us and not by safetensors, whose own temporary file has a name
    that nobody could tell from other people's after a kill."""
    own = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    sums = {name: _crc(tensor) for name, tensor in own.items()}
    return save(own, {"format": FORMAT, "version": str(VERSION), "crc": json.dumps(sums)})


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    """The tensors of a file; None for one of another version.

    Raises:
        OSError: It cannot be read.
        ValueError, or one of UNREADABLE: It is damaged.
    """
    # Opened once: safe_open opens a file twice, and another process can replace it in between.
    # A pipe would be waited for; where there is O_NONBLOCK, opening it is not.
    with open(path, "rb", opener=_open_file) as file:
        data = file.read()
    tensors = load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header.get("__metadata__") or {}
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, str(VERSION)):
        return None
    sums = json.loads(metadata.get("crc", "null"))
    if sums != {name: _crc(tensor) for name, tensor in tensors.items()}:
        raise ValueError(f"{path.name} holds other bytes than were written.")
    return {name: tensors[name] for name in sums}


def _open_file(path: str, flags: int) -> int:
    """Opens an ordinary file; OSError for anything else."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no ordinary file", path)
    return descriptor


def _crc(tensor: torch.Tensor) -> int:
    """CRC-32 of a contiguous tensor's bytes."""
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy())


def _touch(path: Path) -> None:
    """Marks a file as used now, to the nanosecond; in vain where the folder is read-only."""
    now = time.time_ns()
    with suppress(OSError):
        os.utime(path, ns=(now, now))


def _remove(path: Path) -> bool:
    """Whether the file is gone; it is not where the folder is read-only."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True
