"""Values of a sweep, as typed into its widgets, and what is made of their combinations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import vlm
from vlm.conditioning.sweep import sweep
from vlm.conditioning.sweep_values import AXES, Steps, combine, parse_axis

from ..case import Case, Make, line_of
from ..draw import Draw
from .models import picture, sent, tiny_model

SOUND = {
    "layer": ("-2", "0", "auto", "1:0.5", "-2:0.7, -3:0.3"),
    "pool": ("0", "1", "4", "9"),
    "keep": ("text", "all", "image"),
    "normalisation": ("global", "per_dim", "robust", "none", "auto"),
    "strength": ("0", "0.5", "1"),
    "outliers": ("off", "clamp", "zero"),
    "method": ("pool", "interpolate", "concat", "auto"),
    "alpha": ("0", "0.15", "1"),
}


def prepare(base: Path) -> Make:
    """Hidden states, and a text to blend into."""
    model = tiny_model(base)
    h = model.encode("a red house", [picture()])
    h.layer(-1)
    text = [vlm.Entry(vlm.select_layers(model.encode("a red house"), -2), {})]

    def make(draw: Draw, room: Path) -> Case:
        axes = [(draw.one(*AXES, draw.text()), "") for _ in range(draw.one(1, 1, 2, 2, 3))]
        axes = [(name, _values(draw, name)) for name, _ in axes]

        def run() -> Any:
            made = combine(Steps(), [parse_axis(name, values) for name, values in axes])
            return [sent(*entries) for entries in sweep(h, text, made[:6])]

        return Case(line_of("sweep", axes), run)

    return make


def _values(draw: Draw, name: str) -> str:
    def one() -> str:
        return draw.choice(SOUND[name]) if name in SOUND and draw.chance(0.7) else draw.text()

    return draw.one(",", ", ", ";").join(one() for _ in range(draw.one(1, 2, 3, 12, 2000)))
