"""The picture's size that an answer in JSON names, brought to what a diffusion model can make."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..quoted import told

STEP = 16  # the sides of a picture are multiples of it
SMALLEST = 64  # two numbers under it are a ratio, whatever the field is called
MOST_UNEQUAL = 10.0  # longer side to the shorter one
_MEGAPIXEL = 1024 * 1024
_MOST_STARTS = 50  # places where an object may begin, in an answer full of braces

_NUMBER = r"(?<![-\d.])(\d+(?:\.\d+)?(?:e\d+)?)"
_PAIR = re.compile(rf"{_NUMBER}\s*(?:px)?\s*[:：/xX×*]\s*{_NUMBER}(?![\d.])")
_ALONE = re.compile(rf"\s*{_NUMBER}\s*$")
_RATIOS = ("ratio", "aspectratio", "imageratio")
_SIZES = ("size", "resolution", "dimensions", "imagesize")
_PROMPTS = (
    "prompt",
    "rewrittenprompt",
    "enhancedprompt",
    "revisedprompt",
    "caption",
    "description",
)


@dataclass(frozen=True)
class AnswerSize:
    """A picture's size.

    Attributes:
        width: In pixels.
        height: In pixels.
        source: Where it comes from, in a few words.
        found: Whether the answer named it.
    """

    width: int
    height: int
    source: str
    found: bool


def size_of(answer: str, width: int, height: int, megapixels: float = 1.0) -> AnswerSize:
    """The size that an answer names as a ratio ("16:9") or a size ("1328x1328").

    A ratio becomes the size of that shape whose area is about `megapixels`; a size stays as it is,
    unless it is larger. Sides are multiples of 16.

    Args:
        answer: With a JSON object somewhere in it, or not.
        width, height: What to take where the answer names none, or one that nobody could mean.
        megapixels: Area in units of 1024 x 1024 pixels.
    """
    named = _named(find_object(answer))
    if named is None:
        return AnswerSize(width, height, "the answer names none", False)
    key, value = named
    wanted = _sides(value)
    what = f"{key} {told(value, 24)}"
    if wanted is None:
        return AnswerSize(width, height, f"{what} is no size", False)
    wide, high = wanted
    ratio, area = wide / high, megapixels * _MEGAPIXEL
    if not 1 / MOST_UNEQUAL <= ratio <= MOST_UNEQUAL:
        return AnswerSize(width, height, f"{what} is beyond 10:1", False)
    if key in _RATIOS or max(wide, high) < SMALLEST or wide * high > area:
        high = math.sqrt(area / ratio)
        wide = high * ratio
    return AnswerSize(_snapped(wide), _snapped(high), what, True)


def _snapped(side: float) -> int:
    return max(STEP, round(side / STEP) * STEP)


def prompt_of(answer: str) -> str:
    """The prompt inside an answer in JSON; an answer without one as it stands."""
    for fields in _objects(find_object(answer)):
        for name in _PROMPTS:
            value = fields.get(name)
            if isinstance(value, str) and value.strip():
                return value.strip()
    return answer


def find_object(answer: str) -> dict[str, Any] | None:
    """The first JSON object in a text, whatever stands around it; None = there is none."""
    decoder = json.JSONDecoder()
    starts = (found.start() for found in re.finditer(r"\{", answer))
    for _, start in zip(range(_MOST_STARTS), starts, strict=False):
        try:
            value, _ = decoder.raw_decode(answer, start)
        except (ValueError, RecursionError):  # no JSON, a number too long, too deep
            continue
        if value:
            return value
    return None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """An object and those directly in it, with names in small letters without what parts them."""
    if isinstance(value, dict):
        for one in (value, *(each for each in value.values() if isinstance(each, dict))):
            yield {re.sub(r"[\W_]", "", str(name)).lower(): each for name, each in one.items()}


def _named(value: dict[str, Any] | None) -> tuple[str, Any] | None:
    """The first field that names a size, a size before a ratio; and its value."""
    for fields in _objects(value):
        sides = fields.get("width"), fields.get("height")
        if None not in sides:
            return "size", list(sides)
        for name in (*_SIZES, *_RATIOS):
            if fields.get(name) not in (None, "", [], {}):
                return name, fields[name]
    return None


def _sides(value: Any) -> tuple[float, float] | None:
    """Width and height as a field says them, a number alone to 1; None where it says none."""
    if isinstance(value, str) and (found := _PAIR.search(value) or _ALONE.match(value)):
        value = list(found.groups())
    elif isinstance(value, dict):
        value = [value.get("width"), value.get("height")]
    pair = value if isinstance(value, list) else [value]
    pair = [*pair, 1] if len(pair) == 1 else pair
    if len(pair) != 2 or any(isinstance(side, bool) for side in pair):
        return None
    try:
        wide, high = (float(side) for side in pair)
    except (TypeError, ValueError, OverflowError):
        return None
    good = all(0 < side < math.inf for side in (wide, high))
    return (wide, high) if good else None
