"""Lists of files that are kept until something in their folders changes.

ComfyUI asks for them many times: a page for every node's schema, and one check of a queued prompt
for schema, fingerprint and validation of each node. A walk through an input folder with 40 000
pictures takes tens of milliseconds, asking whether its folders have changed takes one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..vlm.logger import LOG

FRESH_SECONDS = 1.0
# A change this soon before a walk can have a second one after it with the same time.
SETTLED_SECONDS = 2.0
State = tuple[int, int]  # what changes when a folder or file does
Found = tuple[dict[str, Path], dict[str, Path]]
_known: dict[str, tuple[State, bool]] = {}  # file: (its state, whether it is listed)


class Look:
    """Looks at folders and files, and knows afterwards whether one of them has changed."""

    def __init__(self) -> None:
        self._seen: dict[str, State | None] = {}
        self._began = time.time_ns()
        self._latest = 0

    def at(self, place: str) -> State | None:
        """The state of a folder or file; None where it is missing or out of reach."""
        now = self._seen[place] = _state(place)
        if now is not None:
            self._latest = max(self._latest, now[0])
        return now

    def file(self, place: str) -> State | None:
        """The state of an ordinary file; None for others: a pipe would be waited for."""
        return self.at(place) if os.path.isfile(place) else None

    def inside(self, folder: str, endings: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Names in a folder, sorted: of files with some endings, and of folders and links to some.

        Args:
            folder: The folder; where it cannot be read, there is nothing in it.
            endings: In small letters.
        """
        self.at(folder)
        files, folders = [], []
        # Nearly all files of an input folder end in another letter: a third of the time.
        last = {letter for ending in endings for letter in (ending[-1], ending[-1].upper())}
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir():
                        folders.append(entry.name)
                    elif entry.name[-1] in last and entry.name.lower().endswith(endings):
                        files += [entry.name] * entry.is_file()
                except OSError:  # links in a circle
                    continue
        return sorted(files), sorted(folders)

    def below(self, root: str, endings: tuple[str, ...]) -> Iterator[str]:
        """Names below a folder, with forward slashes; links to folders are not followed."""
        waiting = [""]  # no function that calls itself: folders may be a thousand deep
        while waiting:
            above = waiting.pop()
            files, folders = self.inside(os.path.join(root, above), endings)
            yield from (above + name for name in files)
            inner = (f"{above}{name}/" for name in reversed(folders))
            waiting += [one for one in inner if not os.path.islink(os.path.join(root, one[:-1]))]

    def changed(self) -> bool:
        """Whether anything that was looked at is not as it was."""
        return any(_state(place) != state for place, state in self._seen.items())

    def settled(self) -> bool:
        """Whether a change since then must show: none was just before it."""
        return self._began - self._latest > SETTLED_SECONDS * 1e9


def belongs(file: str, test: Callable[[Path], bool], look: Look, whose: str) -> bool:
    """What a test says of a file; asked once a change, so that nothing is said twice.

    Args:
        file: Anything can lie there. What is no ordinary file is not listed: reading a pipe would
            wait for ever.
        test: Whether the file is listed; where it fails the file is left out, with a line in the
            log.
        look: Through which it is looked at.
        whose: The list's name in the log.
    """
    state = look.file(file)
    if state is None:
        return False
    known = _known.get(file)
    if known is None or known[0] != state:
        known = _known[file] = (state, _ask(Path(file), test, whose))
    return known[1]


def _ask(file: Path, test: Callable[[Path], bool], whose: str) -> bool:
    try:
        return test(file)
    except Exception as error:  # ComfyUI is asked too, and says no more than we what it raises
        LOG.warning("%s leaves out %s: %s", whose, ascii(str(file)), str(error)[:200])
        return False


def _state(place: str) -> State | None:
    try:
        now = os.stat(place)
    except (OSError, ValueError):
        return None
    return now.st_mtime_ns, now.st_size


class Listing:
    """Files by the name that a node shows, as a walk through folders finds them."""

    def __init__(self, find: Callable[[Look], Found], places: Callable[[], Sequence[str]]):
        """Takes what walks; nothing is done yet.

        Args:
            find: Walks; the files that are shown, and further names that work.
            places: The folders to walk through, whether they are there or not.
        """
        self._find, self._places = find, places
        self._files: dict[str, Path] = {}
        self._others: dict[str, Path] = {}
        self._walked = self._asked = -math.inf
        self._look: Look | None = None
        self._where: Sequence[str] = ()

    def all(self) -> dict[str, Path]:
        """The files, as they were at most FRESH_SECONDS ago."""
        if time.monotonic() - self._asked > FRESH_SECONDS:
            self._refresh()
        return self._files

    def get(self, name: str) -> Path | None:
        """The file of that name; None where there is none now.

        A file that is new, or gone from where it was, is looked for again.
        """
        self.all()
        path = self._named(name)
        if path is None or not path.exists():
            self._refresh()
            path = self._named(name)
        return path if path is not None and path.exists() else None

    def forget(self) -> None:
        """Has the next question walk: a file is about to be written."""
        self._walked = self._asked = -math.inf
        self._look = None

    def _named(self, name: str) -> Path | None:
        return self._files.get(name) or self._others.get(name)

    def _refresh(self) -> None:
        """Walks if something has changed, and now and then if it could have unseen."""
        now = time.monotonic()
        look, where = self._look, self._places()
        unseen = look is None or (not look.settled() and now - self._walked > FRESH_SECONDS)
        if look is None or unseen or where != self._where or look.changed():
            self._look, self._where, self._walked = Look(), where, now
            found = self._find(self._look)
            self._files, self._others = (
                {name: file for name, file in part.items() if _is_text(name)} for part in found
            )
        self._asked = time.monotonic()


def _is_text(name: str) -> bool:
    """Whether a file's name is text, as all that goes to the page must be.

    Linux has names of any bytes; Python writes those that are no UTF-8 with half letters.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
