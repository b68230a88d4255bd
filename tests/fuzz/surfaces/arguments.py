"""Arguments of the library's functions: each in turn something else than was meant."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import vlm

from ..case import Case, Make, line_of
from ..draw import Draw
from .exported import exported_calls

# These load a model, or draw with matplotlib, for each input; they are tried less often.
SLOW = ("load", "inspect_tokens", "rewrite")
# These hold what they are given, NaN too; whoever takes it out of them looks.
CONTAINERS = (vlm.Tokens, vlm.Entry)


class Thing:
    """Something that nothing expects."""


def prepare(base: Path) -> Make:
    """Functions with arguments that they take."""
    calls = exported_calls(base)
    quick = [call for call in calls if call.__name__ not in SLOW]

    def make(draw: Draw, room: Path) -> Case:
        call = draw.choice(list(calls) if draw.chance(0.05) else quick)
        given = dict(calls[call])
        names = list(inspect.signature(call).parameters)
        changed = {
            name: _odd(draw) for name in draw.sample(names, min(len(names), draw.one(1, 1, 2, 3)))
        }
        for name in list(changed):
            if callable(given.get(name)) and callable(changed[name]):
                del changed[name]  # a function of the caller's: what it raises is its own
        shown = line_of(
            call.__name__, *(f"{name}={_short(value)}" for name, value in changed.items())
        )
        return Case(shown, lambda: _result(call(**{**given, **changed})))

    return make


def _result(made: Any) -> Any:
    return None if isinstance(made, CONTAINERS) else made


def _odd(draw: Draw) -> Any:
    """Any object; texts lead to no file, since a caller's path may be anywhere."""
    kind = draw.randint(0, 13)
    if kind < 3:
        return draw.whole()
    if kind < 5:
        return draw.number()
    if kind < 7:
        return draw.text()[:1000].replace("/", "-").replace("..", "-").replace("~", "-")
    if kind == 7:
        return draw.odd_tensor()
    if kind == 8:
        return [_odd(draw) for _ in range(draw.randint(0, 3))]
    if kind == 9:
        return {draw.one("a", 1, 0): _odd(draw) for _ in range(draw.randint(0, 2))}
    if kind == 10:
        return draw.one(None, True, False, b"x", int, Thing(), ..., 1j, range(3), {1})
    if kind == 11:
        return np.zeros([draw.randint(0, 3) for _ in range(draw.randint(0, 4))])
    if kind == 12:
        return Image.new(
            draw.one("RGB", "L", "1", "P", "RGBA", "I", "F", "CMYK"), (4, draw.randint(1, 5))
        )
    return _ring() if draw.chance(0.3) else draw.one(draw.whole(), np.float32(2), np.int64(3))


def _ring() -> list:
    ring: list = []
    ring.append(ring)
    return ring


def _short(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"tensor{list(value.shape)}"
    try:
        return repr(value)[:60]
    except (ValueError, RecursionError):
        return type(value).__name__
