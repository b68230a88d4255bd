"""Panels along the sequence and along the layers: norms and likeness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..token_map import ROLES
from .measures import LayerCurves
from .panels import BLUE, COLOURS, GREEN, GREY, RED

_KINDS = (("image", "image tokens", BLUE), ("text", "text tokens", RED))
_SMALLEST = 1e-6  # of a norm on a logarithmic axis


def draw_norms(axes: Any, norms: torch.Tensor, roles: Sequence[str], sinks: torch.Tensor) -> None:
    """The norm of every token, coloured by role, sinks in a ring.

    Args:
        axes: Where.
        norms: [N] float32.
        roles: Of the N tokens.
        sinks: Bool [N].
    """
    places = torch.arange(len(norms))
    silent = norms <= 0
    loud = norms[~silent] if bool((~silent).any()) else torch.ones(1)
    low, high = float(loud.min()) / 1.3, float(loud.max()) * 1.5
    heights = norms.clamp_min(low)  # what is silenced stands at the edge of the axis
    size = 40 if len(norms) < 60 else 16 if len(norms) < 600 else 6
    for role in ROLES:
        own = torch.tensor([each == role for each in roles]) & ~silent
        if bool(own.any()):
            axes.scatter(places[own], heights[own], s=size, color=COLOURS[role], linewidth=0)
    median = float(norms.median())
    axes.axhline(max(median, low), color=GREY, linewidth=1, linestyle="--", label="median")
    if bool(silent.any()):
        at_edge = {"marker": "x", "clip_on": False, "zorder": 3, "color": GREY}
        axes.scatter(places[silent], heights[silent], s=size, label="silenced (0)", **at_edge)
    if bool(sinks.any()):
        ring = {"s": 90, "facecolor": "none", "edgecolor": RED, "linewidth": 1.6}
        axes.scatter(places[sinks], heights[sinks], label=f"sink ({int(sinks.sum())})", **ring)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    plain_numbers(axes.yaxis)
    axes.set_xlim(-0.5, max(len(norms) - 0.5, 1))
    axes.set_xlabel("token")
    axes.set_ylabel("norm")
    legend_above(axes)


def draw_layers(axes: Any, curves: LayerCurves, alone: LayerCurves | None, layer: int) -> None:
    """Norms by layer: median and the range of the middle 80 % of the tokens.

    Args:
        axes: Where.
        curves: Of the prompt.
        alone: Of the text without pictures, or None.
        layer: Layer index to mark, origin 0.
    """
    for kind, label, colour in _KINDS:
        if kind in curves.norms:
            _band(axes, curves.layers, curves.norms[kind].clamp_min(_SMALLEST), label, colour, "-")
    if alone is not None and "text" in alone.norms:
        own = alone.norms["text"].clamp_min(_SMALLEST)
        _band(axes, alone.layers, own, "text alone (reference)", GREEN, "--")
    _mark_layer(axes, layer, right=layer > sum(curves.layers[:: len(curves.layers) - 1]) / 2)
    axes.set_yscale("log")
    plain_numbers(axes.yaxis)
    axes.set_xlim(curves.layers[0], curves.layers[-1])
    whole_numbers(axes.xaxis)
    axes.set_xlabel("layer index (0 = embeddings)")
    axes.set_ylabel("norm: median, 10th to 90th percentile")
    legend_above(axes)


def draw_likeness(axes: Any, curves: LayerCurves, layer: int) -> None:
    """Cosine of each token between a layer held and the one held before it.

    Args:
        axes: Where.
        curves: Of the prompt, with two layers or more.
        layer: Layer index to mark, origin 0.
    """
    layers = curves.layers[1:]
    for kind, label, colour in _KINDS:
        if kind in curves.likeness:
            _band(axes, layers, curves.likeness[kind], label, colour, "o-")
    _mark_layer(axes, layer, right=layer > (layers[0] + layers[-1]) / 2)
    low = min(float(values.min()) for values in curves.likeness.values())
    axes.set_ylim(min(low - 0.05, 0.75), 1.03)
    room = max(layers[-1] - layers[0], 1) * 0.03
    axes.set_xlim(layers[0] - room, layers[-1] + room)
    whole_numbers(axes.xaxis)
    axes.set_xlabel("layer index, against the layer held before it")
    axes.set_ylabel("cosine: median, 10th to 90th perc.")
    legend_above(axes)


def _band(
    axes: Any, layers: Sequence[int], rows: torch.Tensor, label: str, colour: str, dashes: str
) -> None:
    low, middle, high = rows.T.tolist()
    axes.fill_between(layers, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(layers, middle, dashes, color=colour, linewidth=2, markersize=4, label=label)


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


def legend_above(axes: Any) -> None:
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
        markerscale=1.0,
    )


def whole_numbers(axis: Any) -> None:
    """Ticks at whole numbers alone: there is no layer 2.5."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def plain_numbers(axis: Any) -> None:
    """Logarithmic ticks as 2, 20, 200 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps = (1.0,) if high > 300 * low else (1.0, 2.0, 5.0) if high > 8 * low else range(1, 10)
    axis.set_major_locator(LogLocator(subs=steps, numticks=30 if high < 1e9 * low else 8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
