"""What is not ours as a message repeats it: values, errors of other libraries, odd letters."""

from __future__ import annotations

from typing import Any

_LONGEST = 60  # characters of a value in a message


def told(value: Any, most: int = _LONGEST) -> str:
    """A value as a message repeats it: as Python writes it, at most a line.

    Args:
        value: Anything, however large.
        most: Characters; more are cut, with an ellipsis in their place.
    """
    if isinstance(value, str | bytes):
        value = value[: most + 1]
    elif isinstance(value, int) and not -(10**most) < value < 10**most:
        return "too large a number"
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # too deep; a number too long to be written
        text = f"a {type(value).__name__}"
    text = " ".join(text.split()) if "\n" in text else text  # an array's rows
    return text if len(text) <= most else f"{text[:most]}…"


def reason(error: BaseException, most: int = 200) -> str:
    """What another library says is wrong, as a message repeats it: its first line, in letters.

    It may quote what it read: control characters and the like come out escaped, as Python writes
    them, and what is longer is cut, with an ellipsis in its place.

    Args:
        error: Caught.
        most: Characters.
    """
    try:
        text = str(error).strip()
    except (RecursionError, ValueError):  # of what it quotes
        text = ""
    if isinstance(error, KeyError):
        text = f"it lacks {text}"
    line = text[: most + 1].split("\n")[0].rstrip(". \r") or type(error).__name__
    line = printable(line)
    return line if len(line) <= most else f"{line[:most]}…"


def printable(text: str) -> str:
    """Text without what moves a cursor, turns the direction or is half a letter: that is escaped.

    Args:
        text: Of any length.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
