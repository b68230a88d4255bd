"""Lines and tables on the output stream."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from ..files.units import KILOBYTE, MEGABYTE


def show_any_letter() -> None:
    r"""Has stdout write letters that its encoding lacks as their code, `\u65e5`, as stderr does.

    In a pipe on Windows that is cp1252, and a file's name may hold anything, also on Linux bytes
    that are no UTF-8.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str = "") -> None:
    """A line for the person."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and what is to say of them, in two columns."""
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        say(f"{name.ljust(width)}  {text}")


def say_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of cells: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        say("  ".join([first.ljust(widths[0]), *cells]).rstrip())


def size_of(size: int) -> str:
    """Bytes in words."""
    return f"{size / MEGABYTE:.1f} MB" if size >= MEGABYTE else f"{size / KILOBYTE:.1f} KB"
