"""Panels of bars: what each picture has of the sequence, what a connector takes of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..connectors.connector import LayerWeights
from .curves import legend_above, whole_numbers
from .measures import Share
from .panels import BLUE, GREY, ORANGE, PALE, RED

MOST_BARS = 12


def name_of(share: Share) -> str:
    """`image 0`, or `the rest`."""
    return f"image {share.image}" if share.image >= 0 else "all else"


def draw_shares(axes: Any, shares: Sequence[Share]) -> None:
    """Two bars for each picture and for everything else: share of the tokens, and of the norms.

    Args:
        axes: Where.
        shares: As `measures.shares` gives them; of more than fit the first, and all else.
    """
    shown = [*shares[: MOST_BARS - 1], shares[-1]] if len(shares) > MOST_BARS else shares
    for at, share in enumerate(shown):
        colour = BLUE if share.image >= 0 else RED
        of_tokens, of_norms = 100 * share.of_tokens, 100 * share.of_norms
        first = {"label": "share of the tokens"} if not at else {}
        axes.barh(at - 0.2, of_tokens, 0.36, color=PALE, edgecolor=GREY, linewidth=0.6, **first)
        first = {"label": "share of all norms"} if not at else {}
        axes.barh(at + 0.2, of_norms, 0.36, color=colour, **first)
        axes.text(max(of_tokens, of_norms) + 1.5, at, f"{of_norms:.0f} %", va="center", fontsize=10)
    axes.set_yticks(range(len(shown)), [name_of(share) for share in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("percent")
    legend_above(axes)


def draw_weights(axes: Any, weights: LayerWeights) -> None:
    """A bar for each layer that a connector reads.

    Args:
        axes: Where.
        weights: Of the connector.
    """
    values = weights.values.tolist()
    places = range(len(values)) if weights.layers is None else weights.layers
    room = min((b - a for a, b in zip(places[:-1], places[1:], strict=True)), default=1)
    colours = [BLUE if value >= 0 else ORANGE for value in values]
    axes.bar(places, values, width=0.72 * max(room, 0.2), color=colours, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=1)
    axes.set_ylabel(weights.meaning)
    counted = "layer read, counted from 0" if weights.layers is None else "layer index"
    axes.set_xlabel(counted)
    axes.grid(axis="x", visible=False)
    if len(values) <= 14:
        axes.set_xticks(list(places))
    else:
        whole_numbers(axes.xaxis)
