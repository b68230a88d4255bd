"""Connector files of strangers: pickles that run code, damaged ones, other weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import vlm
from vlm.connectors.lap_blocks import LAP, Origin, Sizes
from vlm.connectors.lap_file import metadata_of

from ..case import Case, Make, line_of
from ..draw import Draw
from .tensor_bytes import damaged, odd_like, pickled

WIDTH = 16
METADATA = ("format", "version", "vlm", "layers", "target", "keep", "heads")


def prepare(base: Path) -> Make:
    """Sound weights of each kind."""
    torch.manual_seed(0)
    lap = LAP(Sizes("unifusion", WIDTH, 2, 4, 4, 32), Origin("lap", "Tiny", (0, 1), "z-image"))
    kinds: dict[str, tuple[dict[str, torch.Tensor], dict[str, str]]] = {
        "linear": (_linear("linear", WIDTH, 8), {}),
        "mlp": (_linear("0", WIDTH, 32) | _linear("2", 32, 8), {}),
        "norm": ({"0.weight": torch.ones(WIDTH)} | _linear("1", WIDTH, 8), {}),
        "lap": ({k: v.clone() for k, v in lap.state_dict().items()}, metadata_of(lap)),
        "mean": (_linear("proj_t5", WIDTH, 8) | {"fusion": torch.ones(1, 3)}, {}),
        "trained": (
            _linear("linear", WIDTH, 8),
            {
                "format": "vlm_connector",
                "version": "1",
                "layers": "auto",
                "keep": "text",
                "vlm": "Tiny",
            },
        ),
    }

    def make(draw: Draw, room: Path) -> Case:
        name = draw.choice(list(kinds))
        tensors, metadata = (dict(each) for each in kinds[name])
        if draw.chance(0.3):
            metadata[draw.choice(METADATA)] = draw.text()
        ending = draw.one(
            ".safetensors", ".safetensors", ".pt", ".pth", ".bin", draw.one("", ".txt")
        )
        file = room / f"connector{ending}"
        if ending in (".pt", ".pth", ".bin"):
            if draw.chance(0.5):
                key = draw.choice(list(tensors))
                tensors[key] = odd_like(draw, tensors[key])
            wrapped: Any = draw.one(
                tensors, {"state_dict": tensors}, {"model": {"state_dict": tensors}}
            )
            file.write_bytes(pickled(draw, wrapped))
        else:
            file.write_bytes(damaged(draw, tensors, metadata))
        return Case(line_of(name, file.name, metadata, file.stat().st_size), lambda: _use(file))

    return make


def _linear(name: str, width: int, out: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.randn(out, width) * 0.1, f"{name}.bias": torch.zeros(out)}


def _use(file: Path) -> Any:
    connector = vlm.load_connector(file)
    repr(connector)
    return [each.detach() for each in connector.state_dict().values()][:20] if hasattr(
        connector, "state_dict"
    ) else None  # fmt: skip
