"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import re
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where nobody can delete a file that is open
    fcntl = None  # type: ignore[assignment]

_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")
_START = 200  # bytes of a name that stand in its part's, which is longer than it
_JUST_MADE = 60  # seconds in which an empty part may belong to someone who has not locked it yet
_swept: set[Path] = set()  # folders in which this process has looked for parts


def write_whole(path: Path, data: bytes) -> None:
    """Writes to a new name beside ``path``, then takes its place in one step.

    An older file stays until then, whatever happens, and the new one is on the disk before it takes
    the place: neither a kill nor a power cut leaves half a file under the name. What a kill leaves
    under the other name goes when any process first writes to the folder. safetensors' own way of
    writing would leave a temporary file under a strange name, and rights that the umask does not
    give.

    Args:
        path: In a folder that exists.
        data: All of the file.

    Raises:
        ValueError: It is a folder.
        OSError: It cannot be written; of the kind that the system says.
    """
    if not path.name or path.is_dir():
        raise ValueError(f"{path} is a folder, expected the name of a file to write.")
    if path.parent not in _swept:
        _swept.add(path.parent)
        remove_parts(path.parent)
    start = path.name.encode("utf-8", "ignore")[:_START].decode("utf-8", "ignore")
    beside = path.with_name(f".{start or 'file'}.{uuid.uuid4().hex[:8]}.part")
    try:
        with beside.open("xb") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            file.write(data)
            sync(file)
            if fcntl is not None:  # still locked: nobody takes it for what a kill left
                os.replace(beside, path)
        if fcntl is None:
            os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise OSError(
            error.errno, f"{path} could not be written ({error.strerror}). Is the disk full?"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def sync(file: IO[bytes]) -> None:
    """Has the disk hold what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Has the disk hold the names in a folder, where the system can; Windows does so by itself."""
    if fcntl is None:
        return
    with suppress(OSError):  # some file systems sync no folders, and lose no names either
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_parts(folder: Path) -> None:
    """Removes what `write_whole` left in a folder when it was killed; others' open parts stay."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_part(Path(entry.path))


def _remove_part(part: Path) -> None:
    """Raises OSError where somebody is writing it, or it is out of reach."""
    with part.open("rb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(file.fileno())
        if not status.st_size and time.time() - status.st_mtime < _JUST_MADE:
            return
        if fcntl is not None:
            part.unlink()
    if fcntl is None:
        part.unlink()
