"""Every exported function with arguments that it takes, for what changes them one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import vlm
from vlm.connectors.lap_blocks import LAP, Origin, Sizes

from .models import picture, tiny_folder, tiny_model


def exported_calls(place: Path) -> dict[Callable[..., Any], dict[str, Any]]:
    """Each function, class and method with arguments for it.

    Args:
        place: A folder for what they read; what they write goes where the process runs.
    """
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
        vlm.Box: {"x0": 0.2, "y0": 0.2, "x1": 0.5, "y1": 0.5},
        vlm.Stroke: {"points": [[0.5, 0.5], [0.6, 0.5]], "radius": 0.5},
        vlm.Entry: {"tokens": t, "options": {}},
        vlm.Needs: {"title": "a model"},
        vlm.PromptSyntax: {"embeddings": [place], "weights": "scale states"},
        vlm.Stats: {"mean": [0.0], "std": [1.0]},
        vlm.Tokens: {"states": t.states},
        vlm.add_style: {"text": text, "delta": t},
        vlm.alpha_ramp: {"first": 0.8, "last": 0.2},
        vlm.apply_mask: {"t": t, "mask": mask},
        vlm.blend: {"vl": t, "text": text},
        vlm.blend_over_time: {
            "pairs": [(entry, entry) for entry in entries],
            "steps": [(0.0, 1.0, 0.5)],
            "mix": vlm.blend,
        },
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
        model.rewrite: {"text": "a", "answer": "b", "max_tokens": 1},
        h.layer: {"k": -1},
        h.layers: {"ks": [-1]},
    }
