"""Panels by dimension: mean and std of tokens against reference statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .curves import legend_above, plain_numbers
from .measures import find_sinks
from .panels import INK

FEWEST = 2  # tokens that have a spread


@dataclass(frozen=True)
class Series:
    """Tokens that are compared with a reference.

    Attributes:
        label: What they are called.
        mean, std: [D] float32 over the tokens that are no sinks, std with N - 1.
        count: Those tokens.
        colour: Of their dots.
        marker: Shape of their dots.
    """

    label: str
    mean: torch.Tensor
    std: torch.Tensor
    count: int
    colour: str
    marker: str = "o"


def make_series(label: str, states: torch.Tensor, colour: str, marker: str = "o") -> Series | None:
    """Tokens [N, D] float32 as a series; None where fewer than two are left without sinks."""
    rows = states[~find_sinks(states)] if len(states) >= FEWEST else states
    if len(rows) < FEWEST:
        return None
    return Series(label, rows.mean(dim=0), rows.std(dim=0), len(rows), colour, marker)


def draw_dimensions(axes: Any, series: Sequence[Series], want: torch.Tensor, kind: str) -> None:
    """A statistic per dimension against the reference's; on the diagonal they are equal.

    Args:
        axes: Where.
        series: Tokens.
        want: [D] the reference's.
        kind: `std` or `mean`.
    """
    everything = torch.cat([want, *(getattr(each, kind) for each in series)])
    low, high = _range(axes, everything, kind)
    for each in series:
        values = getattr(each, kind)
        size = 20 if len(want) < 500 else 7
        look = {"s": size, "marker": each.marker, "color": each.colour}
        shown = (want.clamp(low, high), values.clamp(low, high))  # at the edge, not outside
        axes.scatter(*shown, label=each.label, alpha=0.6, linewidth=0, **look)
    axes.plot((low, high), (low, high), color=INK, linewidth=1, label="as the reference")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    if kind == "std":
        plain_numbers(axes.xaxis)
        plain_numbers(axes.yaxis)
    axes.set_xlabel(f"{kind} of the reference")
    axes.set_ylabel(f"{kind} of these tokens")
    legend_above(axes)


def _range(axes: Any, values: torch.Tensor, kind: str) -> tuple[float, float]:
    """Scales an axis pair for a statistic; the limits of both axes."""
    if kind == "std":
        axes.set_xscale("log")
        axes.set_yscale("log")
        values = values[values > 0]
        if not len(values):
            return 0.1, 10.0
        high = float(values.max())
        low = max(float(values.min()), high * 1e-6)  # a dimension that hardly varies is at the edge
        edge = max(high / low, 1.5) ** 0.06
        return low / edge, high * edge
    size = float(values.abs().max()) or 1.0
    inner = float(values.abs().median()) or size
    if size > 20 * inner:  # a few dimensions far outside: logarithmic beyond the common ones
        _symmetric_log(axes, inner * 3, size)
        return -size * 1.3, size * 1.3
    axes.locator_params(nbins=5)  # more numbers would touch where panels are narrow
    return -size * 1.08, size * 1.08


def _symmetric_log(axes: Any, linear: float, size: float) -> None:
    """Both axes logarithmic on both sides of a linear stretch; ticks at 0 and powers of 10."""
    first = math.ceil(math.log10(linear))
    last = math.floor(math.log10(size))
    step = max(1, -(-(last - first + 1) // 3))
    powers = [10.0**power for power in range(last, first - 1, -step)][::-1]
    ticks = [-power for power in reversed(powers)] + [0.0] + powers
    axes.set_xscale("symlog", linthresh=linear)
    axes.set_yscale("symlog", linthresh=linear)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
