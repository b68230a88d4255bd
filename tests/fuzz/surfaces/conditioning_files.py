"""Conditioning files of anybody's: ours, those of ComfyUI's node, damaged; the disk cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import vlm
from vlm.conditioning.file import load_about
from vlm.running.disk_cache import DiskCache
from vlm.token_map import map_text

from ..case import Case, Make, line_of
from ..draw import Draw
from .models import some_map, some_tokens
from .tensor_bytes import damaged

OPTIONS = ("pooled_output", "attention_mask", "start_percent", "strength", "mask", "area", "hooks")
OPTIONS += ("reference_latents", "image_slots", "default", "vlm_tokens", "control", "x")
NAME = "made.safetensors"
KEY = "ab" * 32


def prepare(base: Path) -> Make:
    """Nothing is shared."""

    def make(draw: Draw, room: Path) -> Case:
        kind = draw.one("ours", "ours", "by hand", "by hand", "comfyui", "cache")
        if kind == "cache":
            return _cached(draw, room)
        file = room / NAME
        if kind == "ours":
            t = some_tokens(draw)
            vlm.save_conditioning(
                [vlm.Entry(t, {"pooled_output": draw.tensor(1, 4)})], file, {"a": 1}
            )
            file.write_bytes(draw.cut(file.read_bytes()))
        else:
            tensors, metadata = (_by_hand if kind == "by hand" else _comfyui)(draw)
            file.write_bytes(damaged(draw, tensors, metadata))
        return Case(line_of(kind, file.read_bytes()[8:]), lambda: _use(file))

    return make


def _use(file: Path) -> Any:
    entries = vlm.load_conditioning(file)
    load_about(file)
    vlm.save_conditioning(entries, file.with_name("again.safetensors"))
    return entries


def _by_hand(draw: Draw) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A file as version 1 or 2 has it, without a checksum, so that its content is read."""
    n = draw.randint(1, 12)
    tensors = {"0.states": draw.tensor(1, n, 8), "0.options.0": draw.tensor(1, 4)}
    options: dict[str, Any] = {"pooled_output": {"tensor": "0"}, "strength": 1.0}
    row = {
        "map": some_map(draw, n),
        "options": options,
        "states": "0.states",
        "tensors": ["0.options.0"],
    }
    if draw.chance(0.5):
        options[draw.choice(OPTIONS)] = draw.one(
            draw.value(),
            {"tensor": draw.one("0", "1", 0)},
            {"tuple": [{"tensor": "0"}]},
            {"dict": {}},
        )
    about = {"model": draw.text(), "text": draw.text()}
    rows: Any = [row] * draw.one(1, 1, 2)
    if draw.chance(0.5):
        rows = draw.changed(
            rows, ("map", "options", "states", "tensors", "tensor", "dict", *OPTIONS)
        )
    metadata = {
        "format": "vlm_conditioning", "version": draw.one("1", "2", "2", "3", "x", "9" * 5000),
        "entries": draw.json_text(rows), "about": draw.json_text(about),
    }  # fmt: skip
    return tensors, metadata


def _comfyui(draw: Draw) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A file as ComfyUI's Save Conditioning writes it."""
    n = draw.randint(1, 12)
    tensors = {
        "conditioning": draw.tensor(1, n, 8),
        "conditioning.pooled_output": draw.tensor(1, 4),
    }
    values: Any = {"strength": 1.0, "vlm_tokens": map_text(some_map(draw, n))}
    values = draw.changed(values, OPTIONS)
    return tensors, {"conditioning_options": draw.json_text(values)}


def _cached(draw: Draw, room: Path) -> Case:
    """An entry of the disk cache; whatever is wrong with it, it is a miss."""
    cache = DiskCache(room / "cache", 1)
    cache.put(KEY, {"states": draw.tensor(1, 5, 8), "crc": draw.tensor(1)})
    (file,) = (room / "cache").glob("*.safetensors")
    data = file.read_bytes()
    made = draw.cut(data) if draw.chance(0.5) else damaged(
        draw, {"states": draw.tensor(1, 5, 8)}, {"crc": json.dumps(draw.value())}
    )  # fmt: skip
    file.write_bytes(made)
    # What comes back may hold NaN: the view over the cache looks at that, not the cache itself.
    return Case(line_of("cache", made[8:]), lambda: str(cache.get(KEY)))
