"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Writes to a new name beside ``path``, then takes its place in one step.

    An older file stays until then, whatever happens. safetensors' own way of writing would leave a
    temporary file under a strange name after a kill, and rights that the umask does not give.

    Args:
        path: In a folder that exists.
        data: All of the file.

    Raises:
        ValueError: It is a folder.
        OSError: It cannot be written; of the kind that the system says.
    """
    if not path.name or path.is_dir():
        raise ValueError(f"{path} is a folder, expected the name of a file to write.")
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        raise OSError(
            error.errno, f"{path} could not be written ({error.strerror}). Is the disk full?"
        ) from error
    finally:
        beside.unlink(missing_ok=True)
