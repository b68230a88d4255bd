"""Names of files that people type, where any system must take them."""

from __future__ import annotations

import os
import re
from pathlib import Path

LONGEST_NAME, LONGEST_PATH = 255, 4096  # bytes; what Linux opens
LONGEST = 200  # bytes: file systems take 255, and a file gets longer while it is written
# What some file system refuses; control characters; half letters of broken text; marks that turn
# the direction of what is read behind them.
_REFUSED = re.compile(
    r'[\\/:*?"<>|\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u2028-\u202e\u2066-\u2069]'
)
# Devices of Windows, with any ending.
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE
)


def is_file_name(name: str) -> bool:
    """Whether Linux, macOS and Windows take a text as the name of a file, without its ending.

    A dot in front hides a file, and Windows drops one at the end, as it does spaces.

    Source: "Naming Files, Paths, and Namespaces" in Microsoft's documentation.
    """
    if not name or name[0] in ". " or name[-1] in ". ":
        return False
    if _REFUSED.search(name) or _DEVICE.match(name):
        return False
    return len(name.encode()) <= LONGEST


def path_problem(path: str | Path) -> str | None:
    """Why a path can lead to no file, in words; None = one may lie there.

    Asked for such a path, systems answer in different ways: as if nothing were there, or with
    errors of other kinds than a missing file's.

    Args:
        path: Relative or absolute.
    """
    text = str(path)
    control = next((one for one in text if one < " " or one == "\x7f"), None)
    if control is not None:
        return f"it holds the control character {control!r}"
    try:
        size = len(os.fsencode(text))
    except UnicodeEncodeError:
        return "it holds half a letter of broken text"
    longest = max((len(os.fsencode(part)) for part in Path(text).parts), default=0)
    if size > LONGEST_PATH or longest > LONGEST_NAME:
        return f"it is too long, names go up to {LONGEST_NAME} bytes and paths to {LONGEST_PATH}"
    return None
