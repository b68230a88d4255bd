"""One pinned file through huggingface_hub: looked at first, gone on with, compared with its pin.

`hf_hub_download` of newer versions throws a part away that a kill or Cancel left behind; the
function that it brings the bytes with goes on from a given byte in every version.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..files.whole_file import sync, sync_folder
from .pins import Pin, PinnedFile

_BLOCK = 8 * 1024**2  # bytes hashed between two looks at Cancel
_NAME = "vlm-conditioning"


class Stopped(Exception):
    """The person pressed Cancel; the part stays."""


class _PartFile(io.FileIO):
    """A file that is added to, until it is to stop."""

    def __init__(self, path: Path, stop: threading.Event):
        super().__init__(path, "ab")
        self._stop = stop

    def write(self, data: Any) -> int:
        if self._stop.is_set():
            raise Stopped
        view = memoryview(data)
        done = 0
        while done < len(view):  # the system takes less at a time where the disk is nearly full
            done += super().write(view[done:]) or 0
        return done


def fetch_file(
    pin: Pin,
    file: PinnedFile,
    place: Path,
    stop: threading.Event,
    checking: Callable[[], None] = lambda: None,
) -> None:
    """Brings one file to its place; a part of it that is there is gone on with.

    Args:
        pin: The model.
        file: One of its files.
        place: The folder, or the file, that the pin's name means here.
        stop: Once it is set, nothing more is written.
        checking: Called when all bytes are there and are read once more for their checksum.

    Raises:
        Stopped: `stop` was set; the part stays.
        ValueError: The repository holds something else than what is pinned.
        OSError: Reading, writing or the connection failed; with requests as huggingface_hub's
            library for connections all of its errors are of this kind, with another see
            `connection_errors`.
    """
    part = pin.part(place, file)
    part.parent.mkdir(parents=True, exist_ok=True)
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()
    if not part.exists() or part.stat().st_size < file.size:
        _bring(pin, file, part, stop)
    checking()
    if _sha256(part, stop) != file.sha256:
        part.unlink()
        raise ValueError(
            f"{file.name} as it came from {pin.repo} is not the file that was checked when this "
            "pack was made: its checksum is another one. It was removed, and nothing of it was "
            "read. Try again; if it comes out the same, tell the makers of this pack."
        )
    target = pin.target(place, file)
    with part.open("rb+") as whole:
        sync(whole)
    os.replace(part, target)
    sync_folder(target.parent)


def connection_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub's library for connections raises: requests, httpx or a later one."""
    from huggingface_hub.utils import get_session

    library = importlib.import_module(type(get_session()).__module__.partition(".")[0])
    return (OSError, library.HTTPError)


def _bring(pin: Pin, file: PinnedFile, part: Path, stop: threading.Event) -> None:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    # The Hub is told neither who asks nor what is installed: no token, no telemetry.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    url = hf_hub_url(pin.repo, file.path, revision=pin.revision)
    there = get_hf_file_metadata(url, token=False, library_name=_NAME)
    _compare(pin, file, there)
    headers = build_hf_headers(token=False, library_name=_NAME)
    while True:
        with _PartFile(part, stop) as stream:
            before = stream.tell()
            try:
                http_get(url, stream, resume_size=before, headers=headers, expected_size=file.size)
                return
            except connection_errors():
                # Older versions give up where a connection breaks in the middle.
                if stream.tell() <= before:
                    raise


def _compare(pin: Pin, file: PinnedFile, there: Any) -> None:
    """Refuses before the download what would be refused behind it."""
    what = None
    if there.commit_hash is not None and there.commit_hash != pin.revision:
        what = f"the revision {there.commit_hash[:12]}"
    elif there.size is not None and there.size != file.size:
        what = f"{there.size} bytes"
    elif there.etag is not None and len(there.etag) == 64 and there.etag != file.sha256:
        what = f"the checksum {there.etag[:12]}…"
    if what is not None:
        raise ValueError(
            f"{pin.repo} offers {file.name} with {what}, expected are revision "
            f"{pin.revision[:12]}, {file.size} bytes and the checksum {file.sha256[:12]}…. Nothing "
            "of it was fetched. If HF_ENDPOINT names a mirror, try without it."
        )


def _sha256(file: Path, stop: threading.Event) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            if stop.is_set():
                raise Stopped
            digest.update(block)
    return digest.hexdigest()
