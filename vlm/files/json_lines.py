"""Objects from a JSON Lines file, one a line, each read or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..quoted import reason, told


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, numbered from 1.

    Raises:
        ValueError: The file is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is not text in UTF-8 ({reason(error)}). Save it as UTF-8."
        ) from error


def object_of(line: str, example: str) -> dict[str, Any]:
    """The object that a line holds.

    Args:
        line: Of the file.
        example: A line that is right, for messages.

    Raises:
        ValueError: No JSON, no object, or one with a key twice.
    """
    try:
        found = json.loads(line, object_pairs_hook=_once)
    except _Twice:
        raise
    except (ValueError, RecursionError) as error:  # a number can be too long as well
        raise ValueError(
            f"this is not JSON ({reason(error)}). Write one object a line, such as {example}."
        ) from error
    if not isinstance(found, dict):
        raise ValueError("this is JSON, but no object. Write {...} around its keys.")
    return found


class _Twice(ValueError):
    """An object with a key twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses an object with a key twice, of which JSON would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Twice(f"{told(twice)} is there twice. Keep one.")
    return found
