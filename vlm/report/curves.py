"""The report's lower panels: norms layer by layer, statistics dimension by dimension."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..tokens.stats import Stats
from .panels import BLUE, GREEN, GREY, INK, ORANGE, RED


def draw_layers(
    axes: Any,
    norms: tuple[list[int], dict[str, torch.Tensor]],
    reference: tuple[list[int], dict[str, torch.Tensor]] | None,
    layer: int,
) -> None:
    """Norms by layer: median and the range of the middle 80 % of the tokens.

    Args:
        axes: where.
        norms: of the prompt with its picture, as `report.layer_norms` gives them.
        reference: of the text alone, likewise, or None.
        layer: layer index to mark, origin 0.
    """
    lines = [
        (norms, "image", "image tokens", BLUE, "-"),
        (norms, "text", "text tokens", RED, "-"),
        (reference, "text", "text alone (reference)", GREEN, "--"),
    ]
    for source, kind, label, colour, dashes in lines:
        if source is None or kind not in source[1]:
            continue
        low, middle, high = source[1][kind].clamp_min(1e-6).T.tolist()
        axes.fill_between(source[0], low, high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(source[0], middle, dashes, color=colour, linewidth=2, label=label)
    _mark_layer(axes, layer, right=layer > norms[0][-1] / 2)
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis)
    axes.set_xlim(norms[0][0], max(norms[0][-1], norms[0][0] + 1))
    axes.set_title("Norms by layer")
    axes.set_xlabel("layer index (0 = embeddings)")
    axes.set_ylabel("norm: median, 10th to 90th percentile")
    _legend_above(axes)


def _mark_layer(axes: Any, layer: int, right: bool) -> None:
    """A dotted line at a layer, its name beside it where there is room."""
    axes.axvline(layer, color=GREY, linewidth=1.2, linestyle=":")
    axes.annotate(
        f"layer {layer}",
        (layer, 0.0),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if right else 5, 6),
        textcoords="offset points",
        ha="right" if right else "left",
        color=GREY,
    )


def draw_dimensions(
    axes: Any, before: torch.Tensor, after: torch.Tensor, stats: Stats, kind: str
) -> None:
    """A statistic per dimension against the reference's; on the diagonal they are equal.

    Args:
        axes: where.
        before, after: [N, D] float32 tokens.
        stats: the reference.
        kind: `std` or `mean`.
    """
    want = getattr(stats, kind)
    pairs = [
        (getattr(before, kind)(dim=0), "before (off by ×{:.3g})", ORANGE, "o"),
        (getattr(after, kind)(dim=0), "after (off by ×{:.3g})", BLUE, "D"),
    ]
    everything = torch.cat([want, *(values for values, *_ in pairs)])
    for values, label, colour, marker in pairs:
        words = label.format(_ratio(values, want)) if kind == "std" else label.split(" ")[0]
        size = 20 if len(want) < 500 else 7
        look = {"s": size, "marker": marker, "color": colour, "alpha": 0.6, "linewidth": 0}
        axes.scatter(want, values, label=words, **look)
    low, high = _range(axes, everything, kind)
    axes.plot((low, high), (low, high), color=INK, linewidth=1, label="as the reference")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    if kind == "std":
        _plain_numbers(axes.xaxis)
        _plain_numbers(axes.yaxis)
    name = {"std": "Std", "mean": "Mean"}[kind]
    axes.set_title(f"{name} of each of the {len(want)} dimensions")
    axes.set_xlabel(f"{kind} of the reference")
    axes.set_ylabel(f"{kind} of these {len(before)} tokens")
    _legend_above(axes)


def _legend_above(axes: Any) -> None:
    """The legend in a line between title and plot, where it covers nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=3,
        fontsize=9.5,
        borderaxespad=0.1,
        borderpad=0.2,
        handlelength=1.3,
        handletextpad=0.4,
        columnspacing=1.1,
        markerscale=1.3,
    )
    axes.set_title(axes.get_title(loc="left"), pad=28)


def _plain_numbers(axis: Any) -> None:
    """Logarithmic ticks as 2, 20, 200 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps = (1.0,) if high > 300 * low else (1.0, 2.0, 5.0) if high > 8 * low else range(1, 10)
    axis.set_major_locator(LogLocator(subs=steps, numticks=30))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _ratio(values: torch.Tensor, want: torch.Tensor) -> float:
    """Typical factor between two sets of std: median of max(a / b, b / a), 1 = equal."""
    a, b = values.clamp_min(1e-6), want.clamp_min(1e-6)
    return float(torch.maximum(a / b, b / a).median())


def _range(axes: Any, values: torch.Tensor, kind: str) -> tuple[float, float]:
    """Scales an axis pair for a statistic; the limits of both axes."""
    if kind == "std":
        axes.set_xscale("log")
        axes.set_yscale("log")
        values = values[values > 0]
        if not len(values):
            return 0.1, 10.0
        low, high = float(values.min()), float(values.max())
        edge = max(high / low, 1.5) ** 0.06
        return low / edge, high * edge
    size = float(values.abs().max()) or 1.0
    inner = float(values.abs().median()) or size
    if size > 20 * inner:  # a few dimensions far outside: logarithmic beyond the common ones
        _symmetric_log(axes, inner * 3, size)
        return -size * 1.3, size * 1.3
    return -size * 1.08, size * 1.08


def _symmetric_log(axes: Any, linear: float, size: float) -> None:
    """Both axes logarithmic on both sides of a linear stretch; ticks at 0 and powers of 10."""
    first = math.ceil(math.log10(linear))
    powers = [10.0**power for power in range(first, math.floor(math.log10(size)) + 1)]
    ticks = [-power for power in powers] + [0.0] + powers
    axes.set_xscale("symlog", linthresh=linear)
    axes.set_yscale("symlog", linthresh=linear)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
