"""New connectors: weights drawn at random, in the modules that `load_connector` reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..connectors.alignnet import AlignNet, published_name
from ..connectors.chain import Chain
from ..connectors.lap_blocks import LAP, UNIFUSION, Origin, Sizes
from ..quoted import told
from .recipe import TrainRecipe

KERNEL = 5  # X2I's
FACTOR = 4  # UniFusion: width inside the feed-forward, as a multiple of the width


@dataclass(frozen=True)
class Shape:
    """What a connector maps.

    Attributes:
        in_width: D of what it reads.
        width: W of what it gives.
        layers: L that it reads at once.
        pooled: P of its pooled vector, 0 = none.
    """

    in_width: int
    width: int
    layers: int = 1
    pooled: int = 0


def make_connector(recipe: TrainRecipe, shape: Shape, origin: Origin) -> Chain | AlignNet | LAP:
    """Draws a connector's weights from torch's generator.

    Linear layers keep the spread of what they read; norms change nothing; AlignNet begins near the
    mean of the layers.

    Args:
        recipe: Says the kind and the width inside.
        shape: What it maps.
        origin: Of a LAP.

    Raises:
        ValueError: A kind that cannot map this.
    """
    kind = recipe.connector
    if kind == "lap":
        return _make_lap(recipe, shape, origin)
    if kind.startswith("alignnet"):
        return _make_alignnet(kind, recipe.hidden or shape.width, shape)
    if shape.pooled and recipe.pooled:
        raise ValueError(
            f"The target reads a pooled vector, and a connector of the kind {kind} gives none. "
            "Choose alignnet-cnn, or set pooled to 0 and connect another pooled vector later."
        )
    into, out = shape.in_width, shape.width
    if kind == "mlp":
        inside = recipe.hidden or out
        return Chain([_linear(into, inside), _linear(inside, out)]).requires_grad_(True)
    steps = {
        "linear": lambda: [_linear(into, out)],
        "linear-norm": lambda: [_linear(into, out), _norm(out)],
        "norm-linear": lambda: [_norm(into), _linear(into, out)],
    }
    return Chain(steps[kind]()).requires_grad_(True)


def check_start(module: Chain | AlignNet | LAP, shape: Shape, recipe: TrainRecipe) -> None:
    """Compares a connector that is gone on from with what the recipe maps.

    Args:
        module: Out of its file.
        shape: Of the recipe's VLM and target.
        recipe: Names the kind and the file.

    Raises:
        ValueError: Another kind, other widths, another number of layers or pooled vector.
    """
    kinds = {"lap": LAP, "alignnet": AlignNet}
    kind = next((name for name, made in kinds.items() if isinstance(module, made)), "linear or mlp")
    asked = recipe.connector.split("-")[0]
    there: list[tuple[str, Any, Any]] = [
        ("kind", kind, asked if asked in kinds else "linear or mlp"),
        ("width of what it reads", module.in_width, shape.in_width),
        ("width of what it gives", module.width, shape.width),
    ]
    if isinstance(module, LAP):
        there.append(("number of layers", module.sizes.layers, shape.layers))
    elif module.layers_read is not None:
        there.append(("number of layers", module.layers_read, shape.layers))
    if isinstance(module, AlignNet) and shape.pooled:
        there.append(("width of its pooled vector", module.pooled, shape.pooled))
    for name, found, wanted in there:
        if found != wanted:
            raise ValueError(
                f"start is {told(recipe.start)}: its {name} is {found}, this recipe has {wanted}. "
                "Name a connector that was trained with the same VLM, layers and target, or leave "
                "start empty."
            )


def file_name_of(module: nn.Module, parameter: str) -> str:
    """What a connector's file calls a parameter of its module."""
    if isinstance(module, Chain):  # as torch.nn.Sequential numbers what it runs
        part, _, number = parameter.partition(".")
        return f"{number}.{'weight' if part == 'weights' else 'bias'}"
    return published_name(parameter) if isinstance(module, AlignNet) else parameter


def _linear(into: int, out: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(out, into) / math.sqrt(into), torch.zeros(out)


def _norm(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(width), torch.zeros(width)


def _make_alignnet(kind: str, inside: int, shape: Shape) -> AlignNet:
    weight, bias = _linear(shape.width, shape.pooled or 1)
    weights = {
        "mlp.layernorm.weight": torch.ones(shape.in_width),
        "mlp.layernorm.bias": torch.zeros(shape.in_width),
        "mlp.projector.0.weight": _linear(shape.in_width, inside)[0],
        "mlp.projector.2.weight": _linear(inside, shape.width)[0],
        "mlp.fc.1.weight": weight,
        "mlp.fc.1.bias": bias,
    }
    if kind == "alignnet-scale":
        weights["cha_scale"] = torch.ones(1, shape.layers, 1, 1)
    if kind == "alignnet-cnn":
        kernel = torch.randn(1, shape.layers, KERNEL, KERNEL) / (KERNEL**2 * shape.layers)
        kernel[..., KERNEL // 2, KERNEL // 2] += 1 / shape.layers
        weights |= {"conv.weight": kernel, "conv.bias": torch.zeros(1)}
    return AlignNet(weights).requires_grad_(True)


def _make_lap(recipe: TrainRecipe, shape: Shape, origin: Origin) -> LAP:
    if shape.in_width != shape.width:
        raise ValueError(
            f"A LAP is as wide as it reads: the VLM's {shape.in_width} dimensions, and the target "
            f"reads {shape.width}. Choose a VLM of that width, or another connector."
        )
    if shape.width % recipe.heads:
        raise ValueError(
            f"{recipe.heads} heads do not divide the VLM's {shape.width} dimensions. Set heads to "
            "a divisor."
        )
    hidden = recipe.hidden or FACTOR * shape.width
    lap = LAP(
        Sizes(UNIFUSION, shape.width, shape.layers, recipe.heads, recipe.heads, hidden), origin
    )
    nn.init.constant_(lap.projector.weight, 1 / shape.layers)
    return lap
