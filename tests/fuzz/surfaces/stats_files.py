"""Files of reference statistics: safetensors with notes, and the research's npz."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import vlm

from ..case import Case, Make, line_of
from ..draw import Draw
from .models import sent, some_tokens
from .tensor_bytes import Runs, damaged

NOTES = ("model", "layer", "prompts", "count", "global_std", "sinks")


def prepare(base: Path) -> Make:
    """Nothing is shared."""

    def make(draw: Draw, room: Path) -> Case:
        if draw.chance(0.25):
            file = room / "stats.npz"
            file.write_bytes(_npz(draw))
            return Case(line_of("npz", file.read_bytes()), lambda: _use(file))
        width = draw.one(1, 8, 64)
        names = ["mean", "std", *(["mean_without_sinks", "std_without_sinks"] * draw.chance(0.4))]
        tensors = {name: draw.tensor(width).abs() for name in names}
        notes: dict[str, Any] = {
            "model": "a",
            "layer": -2,
            "prompts": ["a"],
            "count": 9,
            "global_std": 1.0,
        }
        for name in draw.sample(NOTES, draw.randint(0, 3)):
            notes[name] = draw.value()
        metadata = {name: draw.json_text(value) for name, value in notes.items()}
        metadata["format"] = draw.one("vlm_stats", "vlm_stats", "vlm_conditioning_stats", "x")
        file = room / "stats.safetensors"
        seed = room / "seed.safetensors"  # so that the format's own name is met whatever it is
        vlm.save_stats(vlm.Stats([0.0], [1.0]), seed)
        metadata["format"] = _format_of(seed) if draw.chance(0.85) else metadata["format"]
        file.write_bytes(damaged(draw, tensors, metadata))
        return Case(line_of("stats", notes, file.read_bytes()[8:60]), lambda: _use(file))

    return make


def _use(file: Path) -> Any:
    stats = vlm.load_stats(file)
    if stats.width > 4096:
        return stats.mean
    t = some_tokens(Draw(1), stats.width)
    repr(stats)
    return [stats.mean, sent(vlm.normalize(t, stats), vlm.mask_outliers(t, stats))]


def _format_of(file: Path) -> str:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return opened.metadata()["format"]


def _npz(draw: Draw) -> bytes:
    width = draw.one(1, 8)
    arrays: dict[str, Any] = {
        "per_dim_mean": np.zeros(width, "float32"),
        "per_dim_std": np.ones(
            draw.one(width, width, 3), draw.one("float32", "float64", "int8", "U3")
        ),
        "global_std": draw.one(
            np.float32(1),
            np.array([draw.uniform(-1, 2) * draw.one(1.0, 1e300, np.nan, np.inf)]),
            np.zeros((2, 2)),
        ),
    }
    if draw.chance(0.3):
        arrays["per_dim_mean"] = np.array([Runs()], dtype=object)
    if draw.chance(0.2):
        del arrays[draw.choice(list(arrays))]
    out = io.BytesIO()
    if draw.chance(0.15):  # an array that claims to be huge, in a small archive
        head = io.BytesIO()
        shape = (draw.one(10**6, 10**9, 2**62), draw.one(1, 10**6))
        np.lib.format.write_array_header_1_0(
            head, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("per_dim_mean.npy", head.getvalue() + b"\0" * draw.one(8, 10**6))
            archive.writestr("per_dim_std.npy", head.getvalue())
        return out.getvalue()
    np.savez(out, **arrays)
    return draw.cut(out.getvalue()) if draw.chance(0.4) else out.getvalue()
