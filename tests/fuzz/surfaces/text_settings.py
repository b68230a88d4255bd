"""Texts that are parsed: layers, gains, strengths, alphas, dots, roles, worker numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import vlm
from vlm.batch.worker import read_worker
from vlm.tokens.alphas import parse_alphas
from vlm.tokens.filter import keep_roles
from vlm.tokens.griddot import radial_mask
from vlm.tokens.layer_spec import parse_gains, parse_layers
from vlm.tokens.shape_text import parse_dots

from ..case import Case, Make, line_of
from ..draw import Draw
from .models import picture, tiny_model

DOTS = [
    '{"x": 0.5, "y": 0.5, "radius": 0.3}',
    "0.5,0.5,0.3",
    "x",
    '{"x": 1e999}',
    '{"strength": -1}',
]


def prepare(base: Path) -> Make:
    """Hidden states whose layers are chosen, and the readers."""
    h = tiny_model(base).encode("a red house", [picture()])
    h.layer(-1)
    readers: dict[str, Callable[[Draw, str], Any]] = {
        "layers": lambda draw, text: parse_layers(
            text, draw.one(5, 37, 80), draw.one(None, "weighted")
        ),
        "select": lambda draw, text: vlm.select_layers(h, text),
        "gains": lambda draw, text: parse_gains(text),
        "strengths": lambda draw, text: vlm.lap_pool(h, layers="0,1", strengths=text),
        "alphas": lambda draw, text: parse_alphas(text),
        "dots": lambda draw, text: radial_mask(8, 8, parse_dots(text)),
        "keep": lambda draw, text: keep_roles(text),
        "worker": lambda draw, text: read_worker(text),
    }

    def make(draw: Draw, room: Path) -> Case:
        name = draw.choice(list(readers))
        text = _text(draw, name)
        return Case(line_of(name, text), lambda: readers[name](draw, text))

    return make


def _text(draw: Draw, name: str) -> str:
    if draw.chance(0.4):
        return draw.text()
    if name == "dots":
        dot = {key: draw.number() for key in draw.sample(["x", "y", "radius", "strength", "z"], 4)}
        if draw.chance(0.4):
            return draw.json_text({"version": draw.one(1, 2, 2, 3), "dots": [dot]} | _drawn(draw))
        return draw.json_text([dot] * draw.one(0, 1, 3, 5000) if draw.chance(0.7) else draw.value())
    count = draw.one(1, 2, 3, 8, 3000)
    return draw.one(",", ", ", ";", "\n").join(_item(draw) for _ in range(count))


def _drawn(draw: Draw) -> dict[str, Any]:
    """Boxes and strokes, whole or not."""
    points = [[draw.number(), draw.number()] for _ in range(draw.one(0, 1, 3))]
    box = {key: draw.number() for key in draw.sample(["x0", "y0", "x1", "y1", "strength", "z"], 5)}
    stroke = {"points": draw.one(points, points * 700, draw.value()), "radius": draw.number()}
    return {
        "boxes": draw.one([box], [box] * 1200, draw.value()),
        "strokes": draw.one([stroke], [stroke, box], draw.value()),
    }


def _item(draw: Draw) -> str:
    whole = draw.randint(-9, 9)
    return draw.one(
        str(whole), f"{whole}:{draw.number()}", f"{whole}::", "all", draw.choice(DOTS),
        f"{whole}/{draw.randint(0, 3)}", "text", draw.text()[:30],
    )  # fmt: skip
