"""Lists of files that are kept for a moment: ComfyUI asks for them many times for one prompt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

FRESH_SECONDS = 1.0


class Listing:
    """Files by the name that a node shows, as a walk through folders finds them.

    One check of a queued prompt asks for a node's schema, its fingerprint and its validation, each
    of which needs the list; a walk through an input folder with 20 000 pictures takes 26 ms.
    """

    def __init__(self, find: Callable[[], dict[str, Path]]):
        """Takes what walks; nothing is done yet."""
        self._find = find
        self._files: dict[str, Path] = {}
        self._walked = -math.inf

    def all(self) -> dict[str, Path]:
        """The files, as they were at most FRESH_SECONDS ago."""
        if time.monotonic() - self._walked > FRESH_SECONDS:
            self._walk()
        return self._files

    def get(self, name: str) -> Path | None:
        """The file of that name; None where there is none now.

        A file that is new, or gone from where it was, is looked for again.
        """
        path = self.all().get(name)
        if path is None or not path.exists():
            self._walk()
            path = self._files.get(name)
        return path

    def forget(self) -> None:
        """Has the next question walk: a file is about to be written."""
        self._walked = -math.inf

    def _walk(self) -> None:
        self._files = {name: file for name, file in self._find().items() if _is_text(name)}
        self._walked = time.monotonic()


def _is_text(name: str) -> bool:
    """Whether a file's name is text, as all that goes to the page must be.

    Linux has names of any bytes; Python writes those that are no UTF-8 with half letters.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
