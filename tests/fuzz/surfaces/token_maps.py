"""Token maps as they lie in the options of a conditioning of anybody's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import vlm
from vlm.token_map import join, map_text, read_map, take, what_is_wrong

from ..case import Case, Make, line_of
from ..draw import Draw
from .models import some_map

KEYS = ("version", "n", "role", "image", "frame", "tile", "row", "col", "grids", "turn")
KEYS += ("rows", "cols", "frames")


def prepare(base: Path) -> Make:
    """Nothing is shared."""

    def make(draw: Draw, room: Path) -> Case:
        n = draw.randint(1, 24)
        found = some_map(draw, n)
        if draw.chance(0.9):
            found = draw.changed(found, KEYS)
        if draw.chance(0.3):
            _blow_up(draw, found)
        given = draw.json_text(found) if draw.chance(0.6) else found
        have = draw.one(n, n, n, draw.randint(1, 40))
        return Case(line_of("map", given, have), lambda: _use(draw, given, have))

    return make


def _blow_up(draw: Draw, found: Any) -> None:
    """Grids that claim more than any model sees."""
    grids = found.get("grids") if isinstance(found, dict) else None
    for grid in grids if isinstance(grids, list) else ():
        if isinstance(grid, dict):
            grid[draw.one("rows", "cols", "frames", "image")] = draw.one(
                10**3, 10**6, 10**9, 10**18
            )


def _use(draw: Draw, given: Any, n: int) -> Any:
    """What a graph does with it: read, filtered, pooled, masked, joined, written again."""
    read = read_map(given, n)
    if read is None:
        return None
    states = torch.ones(1, n, 8)
    t = vlm.Tokens(states, read)
    (entry,) = vlm.read_entries([[states, {"vlm_tokens": given}]])
    steps = {
        "filter": lambda: vlm.filter_tokens(t, draw.one("text", "image", "all", "prompt")),
        "pool": lambda: vlm.pool_tokens(t, draw.randint(1, 9)),
        "grid": lambda: vlm.pool_tokens(t, rows=draw.randint(1, 5), cols=draw.randint(1, 5)),
        "mask": lambda: vlm.apply_mask(t, torch.ones(3, 3), draw.one(0, 1)),
        "blend": lambda: vlm.blend(t, vlm.Tokens(states), method="concat"),
        "write": lambda: vlm.write_entries([entry]),
        "join": lambda: what_is_wrong(join(read, read)),
        "take": lambda: (what_is_wrong(take(read, [0])), map_text(read))[0],
        "turns": lambda: vlm.filter_tokens(t, "all", turns=draw.one(0, 1)),
        "inside": lambda: vlm.filter_tokens(t, "image", images=draw.one(0, 3)),
    }
    return steps[draw.choice(list(steps))]()
