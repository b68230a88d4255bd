"""A pinned model brought to its place: room on the disk, one at a time, progress, Cancel."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..quoted import reason
from .hub import Stopped, connection_errors, fetch_file
from .pins import Pin, PinnedFile, gigabytes

ROOM_LEFT = 500_000_000  # bytes of the disk that a download leaves free
_LOOK = 0.2  # seconds between two reports
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def fetch(pin: Pin, place: Path, report: Callable[[int, int, str], None]) -> int:
    """Fetches what a model lacks; opens no connection where it lacks nothing.

    What comes lies in the folder `.download` beside its place until its checksum has been compared.
    Cancelled, killed or cut off, the next call goes on where it stopped. A second process waits for
    the first.

    Args:
        pin: The model.
        place: The folder, or the file, that its name means here; made if it is not there.
        report: Called a few times a second with bytes that are there, bytes of all that was
            lacking, and a line of text. What it raises ends the download, and comes out of here.

    Returns:
        Bytes of the files that were lacking; 0 = nothing to do.

    Raises:
        ConnectionError: The Hub, or the mirror in HF_ENDPOINT, cannot be reached, or broke off; or
            HF_HUB_OFFLINE forbids it.
        FileNotFoundError: It does not have the repository, the revision or a file.
        ValueError: It holds something else than what is pinned.
        OSError: No room, or the place cannot be written.
    """
    lacking = pin.lacking(place)
    if not lacking:
        return 0
    _need_online(pin)
    _need_room(pin, place)
    work = _Work(pin, place, lacking)
    work.start()
    try:
        while work.is_alive():
            work.join(_LOOK)
            report(*work.state())
    finally:
        work.stop.set()
    if work.error is not None:
        raise _in_words(work.error, pin) from work.error
    return work.total


class _Work(threading.Thread):
    """What happens while the caller reports: a thread, since a silent server cannot be asked."""

    def __init__(self, pin: Pin, place: Path, lacking: Sequence[PinnedFile]):
        super().__init__(name=f"fetch {pin.name}", daemon=True)
        self.stop = threading.Event()
        self.error: Exception | None = None
        self.total = sum(file.size for file in lacking)
        self._pin, self._place, self._lacking = pin, place, lacking
        self._file: PinnedFile | None = None
        self._told = "waits for another download of the same model"
        self._began = time.monotonic()
        self._had: int | None = None

    def run(self) -> None:
        """Fetches, and remembers what went wrong."""
        try:
            self._run()
        except Exception as error:  # raised again where the caller waits
            self.error = error

    def _run(self) -> None:
        from filelock import FileLock

        lock = self._place.with_name(f".{self._place.name}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with _locked(FileLock(lock), self.stop):
            for file in self._pin.lacking(self._place):  # the other one may have brought it
                self._file = file
                self._told = file.name
                fetch_file(self._pin, file, self._place, self.stop, self._checks)
        with suppress(OSError):  # someone who still waits may have it open
            lock.unlink(missing_ok=True)
        parts = self._pin.part(self._place, self._lacking[0]).parent
        if self._pin.is_folder:
            shutil.rmtree(parts, ignore_errors=True)
        else:
            with suppress(OSError):  # another model's file may be on its way
                parts.rmdir()

    def _checks(self) -> None:
        self._told = f"compares the checksum of {self._told}"

    def state(self) -> tuple[int, int, str]:
        """Bytes there, bytes of all, and a line."""
        done = 0
        for file in self._lacking:
            part, target = self._pin.part(self._place, file), self._pin.target(self._place, file)
            with suppress(OSError):
                done += part.stat().st_size if part.exists() else 0
                done += file.size if target.exists() and target.stat().st_size == file.size else 0
        done = min(done, self.total)
        if self._had is None:
            self._had, self._began = done, time.monotonic()
        line = f"{self._pin.repo}: {gigabytes(done)} of {gigabytes(self.total)}"
        seconds = time.monotonic() - self._began
        if done > self._had and seconds > 2:
            speed = (done - self._had) / seconds
            left = (self.total - done) / speed
            line += f", {speed / 1e6:.0f} MB/s, {_duration(left)} left"
        return done, self.total, f"{line}; {self._told}"


class _locked:
    """A lock that is waited for until `stop` is set."""

    def __init__(self, lock: Any, stop: threading.Event):
        self._lock, self._stop = lock, stop

    def __enter__(self) -> None:
        from filelock import Timeout

        while True:
            try:
                self._lock.acquire(timeout=_LOOK)
                return
            except Timeout:
                if self._stop.is_set():
                    raise Stopped from None

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _need_online(pin: Pin) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ConnectionError(
            f"{pin.name} cannot be fetched: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set where "
            "this program was started, and forbids connections. Start it without, or put the "
            "files there by hand."
        )


def _need_room(pin: Pin, place: Path) -> None:
    there = next(folder for folder in place.parents if folder.is_dir())
    needed, free = pin.to_come(place), shutil.disk_usage(there).free
    if needed + ROOM_LEFT > free:
        raise OSError(
            f"{pin.name} needs {gigabytes(needed)} more, and {gigabytes(ROOM_LEFT)} are to stay "
            f"free, but the disk of {there} has {gigabytes(free)} left. Make room, or name a "
            "folder on another disk in extra_model_paths.yaml and put the model there."
        )


def _in_words(error: Exception, pin: Pin) -> Exception:
    """What is said of an error of the thread, in the kinds that `fetch` names."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    host = constants.ENDPOINT.partition("://")[2]
    kept = "What has come is kept, and the next try goes on from there."
    said = reason(error)
    if isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", None)
        if status in (401, 403, 404):
            return FileNotFoundError(
                f"{host} does not give {pin.repo} at revision {pin.revision[:12]} (status "
                f"{status}). It may have been taken away or closed; put the files of "
                f"{pin.name} there by hand, from where you can get them."
            )
        return ConnectionError(f"{host} refused with status {status} ({said}). {kept} Try later.")
    if isinstance(error, OSError) and error.errno in _FULL:
        return OSError(f"The disk filled up while {pin.name} came. {kept} Make room.")
    if isinstance(error, OSError) and (error.filename is not None or error.errno == errno.EACCES):
        return error  # of a file of ours, in the system's words
    if isinstance(error, connection_errors()):
        return ConnectionError(
            f"{host} cannot be reached or broke off ({said}). {kept} Check the connection (and "
            "HF_ENDPOINT and proxies, where they are set) and try again."
        )
    return error


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
