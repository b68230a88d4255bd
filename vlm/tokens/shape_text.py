"""The JSON text of the shapes on a picture. Dots alone are version 1, which every release reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import MISSING, asdict, fields
from typing import Any

from ..arguments import need_length
from ..quoted import reason, told
from .shapes import KINDS, MAX_SHAPES, Shape, name_of, need_points, need_shapes

DOTS_ALONE = 1  # the version of dots alone
ALL_SHAPES = 2
_KEYS = {name_of(kind, 2): kind for kind in KINDS}  # dots, boxes, strokes
_EXAMPLE = '{"x": 0.5, "y": 0.5, "radius": 0.3, "strength": 1}'


def parse_dots(text: str) -> list[Shape]:
    """Reads dots, boxes and strokes from JSON.

    Args:
        text: ``{"version": 1, "dots": [{"x": 0.5, "y": 0.5, "radius": 0.3, "strength": 1}]}`` or
            the bare list; with boxes or strokes ``{"version": 2, "dots": [], "boxes": [{"x0": 0,
            "y0": 0, "x1": 0.5, "y1": 1, "strength": 1}], "strokes": [{"points": [[0.1, 0.1],
            [0.9, 0.1]], "radius": 0.1, "strength": 1}]}``, where a list may be left out.
            ``strength`` may be left out. Empty: nothing is drawn.

    Returns:
        The dots in their order, then the boxes, then the strokes; at most ``MAX_SHAPES`` in all.

    Raises:
        ValueError: Not that; the message says where.
    """
    if not isinstance(text, str):
        raise ValueError(f"`dots` is text (JSON), this is {type(text).__name__}.")
    need_length(text, "dots", MAX_SHAPES * 2000)
    if not text.strip():
        return []
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"`dots` cannot be read as JSON ({reason(error)}). Write "
            f'{{"version": 1, "dots": [{_EXAMPLE}]}}, or leave it empty.'
        ) from error
    lists = _lists(data)
    count = sum(len(entries) for entries in lists.values())
    need_shapes(count, "dots" if len(lists.get("dots", ())) == count else "shapes")
    strokes = [each.get("points") for each in lists.get("strokes", ()) if isinstance(each, dict)]
    need_points(sum(len(points) for points in strokes if isinstance(points, list)))
    return [
        _read(_KEYS[key], number, entry)
        for key, entries in lists.items()
        for number, entry in enumerate(entries, start=1)
    ]


def write_dots(shapes: Iterable[Shape]) -> str:
    """The shapes as the JSON text that ``parse_dots`` reads."""
    shapes = list(shapes)
    lists = {key: [asdict(x) for x in shapes if type(x) is kind] for key, kind in _KEYS.items()}
    if len(lists["dots"]) == len(shapes):
        return json.dumps({"version": DOTS_ALONE, "dots": lists["dots"]})
    return json.dumps({"version": ALL_SHAPES} | lists)


def _lists(data: Any) -> dict[str, list[Any]]:
    """The entries of each kind, unread, in the order of KINDS."""
    lists = {"dots": data}
    if isinstance(data, dict):
        version = data.get("version", DOTS_ALONE)
        if version not in (DOTS_ALONE, ALL_SHAPES):
            raise ValueError(
                f"`dots` has the version {told(version)}, this pack reads versions {DOTS_ALONE} "
                f"and {ALL_SHAPES}. Update the pack, or draw anew."
            )
        lists = {"dots": data.get("dots")}
        if version == ALL_SHAPES:
            lists = {key: data[key] for key in _KEYS if key in data} or lists
            strange = [key for key in data if key not in _KEYS and key != "version"]
            if strange:
                raise ValueError(
                    f"`dots` has {told(strange[0])}, which version {ALL_SHAPES} has not. It has "
                    "dots, boxes and strokes."
                )
    for key, entries in lists.items():
        if not isinstance(entries, list):
            raise ValueError(f"`dots` is JSON, but no list of {key}. Write {_ask(key)}.")
    return lists


def _ask(key: str) -> str:
    """An example of what is to be written in place of something that is no list."""
    if key == "boxes":
        return '"boxes": [{"x0": 0, "y0": 0, "x1": 0.5, "y1": 1, "strength": 1}]'
    if key == "strokes":
        return '"strokes": [{"points": [[0.1, 0.1], [0.9, 0.1]], "radius": 0.1, "strength": 1}]'
    return f"[{_EXAMPLE}]"


def _read(kind: type[Shape], number: int, entry: Any) -> Shape:
    names = [field.name for field in fields(kind)]
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    one = name_of(kind)
    where = f"{one.capitalize()} {number} of `dots`"
    parts = f"{', '.join(names[:-1])} and {names[-1]}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is {told(entry)}, expected {parts}.")
    missing = [name for name in needed if name not in entry]
    strange = [name for name in entry if name not in names]
    if missing or strange:
        what = f"no {missing[0]}" if missing else f"{told(strange[0])}, which no {one} has"
        raise ValueError(f"{where} has {what}. A {one} is {parts}.")
    try:
        return kind(**entry)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
