"""The toy model that surfaces share, and tokens of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

import vlm
from vlm.model import VLM
from vlm.tiny.folder import write_tiny
from vlm.token_map import new_map

from ..draw import Draw

LAYERS = 4


def tiny_folder(place: Path, family: str = "qwen3_vl", layers: int = LAYERS) -> Path:
    """A folder with a toy model."""
    torch.set_num_threads(1)  # the threads of a pool do not live on in a fork
    return write_tiny(place / family, family, layers=layers)


def tiny_model(place: Path) -> VLM:
    """It loaded, and run once, so that everything is imported."""
    model = vlm.load(tiny_folder(place), dtype="float32")
    model.encode("a", [picture()]).layer(-1)
    return model


def picture(side: int = 64) -> Image.Image:
    """A picture with something in it."""
    return Image.linear_gradient("L").resize((side, side)).convert("RGB")


def sent(*tokens: Any) -> list:
    """As a node hands them on, or a file holds them: the way out refuses NaN and Inf."""
    entries = [one if isinstance(one, vlm.Entry) else vlm.Entry(one, {}) for one in tokens]
    return vlm.write_entries(entries)


def some_map(draw: Draw, n: int) -> dict:
    """A sound token map of n tokens, with a picture where there is room for one."""
    rows, cols = draw.randint(1, 4), draw.randint(1, 4)
    cells = rows * cols
    if cells > n or draw.chance(0.3):
        roles = [draw.one("text", "template", "system", "generated", "pad") for _ in range(n)]
        return new_map(roles)
    rest = n - cells
    roles = ["image"] * cells + [draw.one("text", "template", "unknown") for _ in range(rest)]
    at = [(cell // cols, cell % cols) for cell in range(cells)] + [(0, 0)] * rest
    return new_map(
        roles,
        images=[0] * cells + [-1] * rest,
        rows=[row for row, _ in at],
        cols=[col for _, col in at],
        grids=[{"image": 0, "frames": 1, "rows": rows, "cols": cols}],
    )


def some_tokens(draw: Draw, width: int = 0) -> vlm.Tokens:
    """Sound tokens of finite numbers, now and then near the edge of their dtype."""
    n, width = draw.randint(1, 20), width or draw.one(1, 2, 8, 64)
    most = draw.one(0.0, 1e-20, 1.0, 1.0, 1.0, 100.0, 1e4, 1e18, 1e37)
    dtype = torch.float32 if most > 1e4 else None
    states = draw.tensor(draw.one(1, 1, 1, 2), n, width, dtype=dtype, most=most)
    if most > 1e37 / 2:
        states = states.clamp(-3e38, 3e38)
    return vlm.Tokens(states, some_map(draw, n) if draw.chance(0.8) else None)


def some_stats(draw: Draw, width: int) -> vlm.Stats:
    """Sound statistics."""
    most = draw.one(0.0, 1.0, 1.0, 1e-20, 1e5, 1e30)
    mean = draw.tensor(width, dtype=torch.float32, most=most)
    std = draw.tensor(width, dtype=torch.float32, most=most).abs()
    return vlm.Stats(mean, std, count=draw.one(None, 0, 1, 2, 300, 10**6))
