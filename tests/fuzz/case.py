"""One input, and a surface that makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .draw import Draw

LONGEST = 160  # letters of an input's line


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        shown: It in a line.
        run: Gives it to the product; what this returns is looked at for NaN and broken maps, what
            it raises for whether it is a sentence of the product's.
    """

    shown: str
    run: Callable[[], Any]


Make = Callable[[Draw, Path], Case]  # an input out of a draw and an empty folder of its own
Prepare = Callable[[Path], Make]  # what all inputs of a surface share, made once in a folder


def line_of(*parts: Any) -> str:
    """Parts of an input in a line that any terminal can show."""
    made = " ".join(part if isinstance(part, str) else _short(part) for part in parts)
    made = made.encode("unicode_escape").decode("ascii")
    return made if len(made) <= LONGEST else f"{made[:LONGEST]}..."


def _short(value: Any) -> str:
    try:
        return repr(value)[:LONGEST]
    except (ValueError, RecursionError):
        return f"<{type(value).__name__}>"
