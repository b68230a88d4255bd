"""Arguments of the library's functions: each in turn something else than was meant."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import vlm
from vlm.connectors.lap_blocks import LAP, Origin, Sizes

from ..case import Case, Make, line_of
from ..draw import Draw
from .models import picture, tiny_folder, tiny_model

# These load a model, or draw with matplotlib, for each input; they are tried less often.
SLOW = ("load", "inspect_tokens", "rewrite")
# These hold what they are given, NaN too; whoever takes it out of them looks.
CONTAINERS = (vlm.Tokens, vlm.Entry)


class Thing:
    """Something that nothing expects."""


def prepare(base: Path) -> Make:
    """Functions with arguments that they take."""
    calls = _calls(base)
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


def _calls(place: Path) -> dict:
    model = tiny_model(place)
    h = model.encode("a red house", images=[picture()])
    h.layer(-1)
    t = vlm.select_layers(h, -1)
    text, stats, entries = vlm.filter_tokens(t, "prompt"), vlm.measure_stats(t), [vlm.Entry(t, {})]
    vlm.save_stats(stats, place / "stats.safetensors")
    vlm.save_conditioning(entries, place / "made.safetensors")
    lap = LAP(Sizes("unifusion", 64, 2, 4, 4, 128), Origin("lap", "Tiny", (0, 1), "none"))
    vlm.save_lap(lap, place / "lap.safetensors")
    grid = t.token_map["grids"][0]
    mask = torch.ones(grid["rows"], grid["cols"])
    return {
        vlm.Conversation: {"turns": vlm.Conversation().user("a").turns},
        vlm.Conversation().user: {"text": "a"},
        vlm.Conversation().user("a").assistant: {"text": "a"},
        vlm.Dot: {"x": 0.5, "y": 0.5, "radius": 0.5},
        vlm.Entry: {"tokens": t, "options": {}},
        vlm.Needs: {"title": "a model"},
        vlm.PromptSyntax: {"embeddings": [place], "weights": "scale states"},
        vlm.Stats: {"mean": [0.0], "std": [1.0]},
        vlm.Tokens: {"states": t.states},
        vlm.add_style: {"text": text, "delta": t},
        vlm.alpha_ramp: {"first": 0.8, "last": 0.2},
        vlm.apply_mask: {"t": t, "mask": mask},
        vlm.blend: {"vl": t, "text": text},
        vlm.check: {"entries": entries, "needs": vlm.Needs("a model")},
        vlm.filter_tokens: {"t": t},
        vlm.hand_over: {"first": entries, "second": entries, "percent": 0.5},
        vlm.inspect_tokens: {"tokens": t},
        vlm.lap_pool: {"h": h, "layers": [0, 1]},
        vlm.load: {"folder": tiny_folder(place / "load", layers=2)},
        vlm.load_conditioning: {"path": place / "made.safetensors"},
        vlm.load_connector: {"path": place / "lap.safetensors"},
        vlm.load_stats: {"path": place / "stats.safetensors"},
        vlm.mask_outliers: {"t": t, "stats": stats},
        vlm.measure_stats: {"tokens": t},
        vlm.normalize: {"t": t, "stats": stats},
        vlm.pool_tokens: {"t": t, "tokens": 2},
        vlm.radial_mask: {"rows": 3, "cols": 3, "dots": [vlm.Dot(0.5, 0.5, 0.5)]},
        vlm.read_entries: {"conditioning": vlm.write_entries(entries)},
        vlm.resample_mask: {"mask": mask, "rows": 2, "cols": 2},
        vlm.save_conditioning: {"entries": entries, "path": "out.safetensors"},
        vlm.save_lap: {"lap": lap, "path": "out.safetensors"},
        vlm.save_stats: {"stats": stats, "path": "out.safetensors"},
        vlm.select_layers: {"h": h},
        vlm.style_delta: {"styled": t, "neutral": text},
        vlm.write_entries: {"entries": entries},
        model.encode: {"text": "a"},
        model.rewrite: {"text": "a", "answer": "b"},
        h.layer: {"k": -1},
        h.layers: {"ks": [-1]},
    }
