"""Hears what a process does beyond computing: files outside its sandbox, sockets, programs."""

from __future__ import annotations

import os
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CANARY = "it-ran"  # what hostile code in a case's files would write
RUNS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn")
ASKS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind")
ASKS += ("socket.sendto", "builtins.input")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod")
_CHANGES += ("os.truncate", "shutil.rmtree")


class Watch:
    """An audit hook, which cannot be removed again, that hears while it is on.

    Attributes:
        outside: What was opened, changed or asked beyond the sandbox, in words.
        executed: Programs and code of a file that ran.
    """

    def __init__(self, sandbox: Path, shared: Path):
        """Begins to listen.

        Args:
            sandbox: Where everything may be done.
            shared: What may be read as well.
        """
        self.sandbox = os.path.realpath(sandbox)
        # Python and its packages read files of their own whenever they like; so does this project.
        places = [shared, ROOT, sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()]
        self._own = tuple({os.path.realpath(place) for place in places})
        self._system = ("/proc/self/", "/proc/meminfo", "/proc/cpuinfo", "/sys/", "/dev/null")
        self._system += ("/dev/urandom", "/usr/share/zoneinfo", "/usr/share/fonts", "/etc/mime")
        self._on = False
        self.outside: list[str] = []
        self.executed: list[str] = []
        sys.addaudithook(self._hear)

    @contextmanager
    def over(self) -> Any:
        """Forgets what was heard, and hears."""
        self._on, self.outside, self.executed = True, [], []
        try:
            yield
        finally:
            self._on = False

    def _hear(self, event: str, words: tuple) -> None:
        if not self._on:
            return
        if event == "open":
            self._opened(*words)
        elif event in _CHANGES:
            # What a link points to is opened or not, which is heard then.
            places = words[1:2] if "link" in event else words[:1]
            places += words[1:2] if event == "os.rename" else ()
            whole = event == "os.chmod"  # the others change a link itself, wherever it leads
            self.outside += [
                f"{event} {place!r}"
                for place in places
                if not self._inside(place if whole else _in_its_folder(place))
            ]
        elif event in RUNS:
            self.executed.append(f"{event} {str(words)[:100]}")
        elif event in ASKS:
            self.outside.append(f"{event} {str(words)[:100]}")

    def _opened(self, name: Any, mode: str | None, flags: int | None) -> None:
        if not isinstance(name, str | bytes | os.PathLike):
            return  # a descriptor that is open already
        if os.path.basename(os.fsdecode(name)) == CANARY:
            self.executed.append(f"wrote {CANARY}")
        writes = bool(flags and flags & _WRITES) or bool(mode and set(mode) & set("wax+"))
        if self._inside(name) or (not writes and self._may_read(name)):
            return
        self.outside.append(f"open {name!r}{' to write' if writes else ''}")

    def _inside(self, name: Any) -> bool:
        """Whether it lies in the sandbox; a link inside that leads out does not."""
        if isinstance(name, int):
            return True
        real = _real(name)
        return not real or _below(real, self.sandbox)

    def _may_read(self, name: Any) -> bool:
        real = _real(name)
        return any(_below(real, place) for place in self._own) or real.startswith(self._system)


def _in_its_folder(name: Any) -> Any:
    """The folder of a name: its last part may be a link, which is not followed."""
    return name if isinstance(name, int) else os.path.dirname(os.fsdecode(name).rstrip("/")) or "."


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _real(name: Any) -> str:
    try:
        return os.path.realpath(os.fsdecode(name))
    except (OSError, ValueError):  # a name that no file can have, so that nothing is opened
        return ""
