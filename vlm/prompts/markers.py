"""Names of pictures in a prompt: `<image1>` is the first one."""

from __future__ import annotations

import re
from collections.abc import Mapping

MARKER = re.compile(r"<image([0-9]{1,6})>")
_WITH_A_BLANK = re.compile(rf"^{MARKER.pattern} ?| ?{MARKER.pattern}")


def check_names(text: str, pictures: int) -> None:
    """Refuses a name that no picture has.

    Args:
        text: Words in which names stand for pictures.
        pictures: How many there are.

    Raises:
        ValueError: There is one.
    """
    for found in MARKER.finditer(text):
        if not 1 <= int(found[1]) <= pictures:
            there = {0: "no picture comes", 1: "one picture comes"}
            come = there.get(pictures, f"{pictures} pictures come")
            raise ValueError(
                f"The words name {found[0]}, and {come} with them. Give that picture, name one "
                "that is there (<image1> is the first), or leave pictures where the template puts "
                "them: then such names stay words."
            )


def rename(text: str, numbers: Mapping[int, range]) -> str:
    """Words with other numbers in the names.

    Args:
        text: The words.
        numbers: Of each name's number the ones that come in its place, side by side. A name whose
            number is not there goes, with a blank beside it.
    """

    def other(found: re.Match[str]) -> str:
        names = numbers.get(int(found[1] or found[2]))
        if names is None:
            return ""
        written = "".join(f"<image{number}>" for number in names)
        return MARKER.sub(written, found[0], count=1)

    return _WITH_A_BLANK.sub(other, text)
