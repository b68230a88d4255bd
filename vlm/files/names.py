"""Names of files that people type, where any system must take them."""

from __future__ import annotations

import re

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
