"""Panels of the report about layers, connectors and reference statistics."""

from __future__ import annotations

from collections.abc import Sequence

from ..connectors.connector import Connector, LayerWeights
from ..running.hidden_states import HiddenStates
from ..tokens.stats import Stats, few_tokens
from .bars import draw_weights
from .curves import draw_layers, draw_likeness
from .dimensions import Series, draw_dimensions
from .figure import Panel
from .measures import LayerCurves, count_of, layer_curves, off_by, reference_of, short
from .subject import Subject

MOST_NAMED = 3


def curves_panels(subject: Subject, alone: HiddenStates | None = None) -> list[Panel]:
    """Norms by layer and the likeness of neighbouring layers, of hidden states with two or more."""
    states = subject.states
    if states is None or len(states.held) < 2:
        return []
    curves = layer_curves(states)
    if not curves.norms:
        return []
    before = layer_curves(alone) if alone is not None and len(alone.held) > 1 else None
    layer = subject.layer or 0
    held = f"{len(states.held)} of {states.num_layers} layers are held"
    return [
        Panel(
            "Norms by layer",
            f"{held}, to layer {states.depth}. {_norms_in_words(curves)}",
            "Layer 0 is what goes in, each layer works on it once more. Good: words and pictures "
            "keep together. Where the curves part, tokens of this layer have to be normalised "
            "before pictures and words are mixed. Layers that did not run are not drawn.",
            lambda axes: draw_layers(axes, curves, before, layer),
        ),
        Panel(
            "How alike neighbouring layers are",
            _likeness_in_words(curves),
            "1 = a layer leaves the tokens' direction as it was. Good: close to 1, as neighbours "
            "are in most models; then the layer next to the one you chose gives nearly the same. "
            "At a dip the tokens are rebuilt: layers before and after it are worth comparing.",
            lambda axes: draw_likeness(axes, curves, layer),
        ),
    ]


def _norms_in_words(curves: LayerCurves) -> str:
    first, last = curves.layers[0], curves.layers[-1]
    parts = [
        f"{kind} tokens {short(float(rows[0, 1]))} in layer {first}, "
        f"{short(float(rows[-1, 1]))} in layer {last}"
        for kind, rows in curves.norms.items()
    ]
    return f"Median norm: {'; '.join(parts)}."


def _likeness_in_words(curves: LayerCurves) -> str:
    parts = []
    for kind, rows in curves.likeness.items():
        middle = rows[:, 1]
        at = int(middle.argmin())
        pair = f"{curves.layers[at]} and {curves.layers[at + 1]}"
        parts.append(
            f"{kind} tokens {float(middle.median()):.2f}, least {float(middle[at]):.2f} (layers "
            f"{pair})"
        )
    gaps = curves.layers[-1] - curves.layers[0] != len(curves.layers) - 1
    said = f"Median cosine: {'; '.join(parts)}."
    return said + (" Not all layers are held: some of these are not direct neighbours." * gaps)


def weights_panel(connector: Connector, num_layers: int | None) -> Panel | None:
    """What a connector takes of each layer; None where it reads one."""
    weights = connector.layer_weights(num_layers)
    if weights is None:
        return None
    return Panel(
        f"{connector.name}: what it takes of each layer",
        f"{connector.title}. {_weights_in_words(weights)}",
        "A long bar = this layer matters to what comes out; below 0 = it is taken away. Good: "
        "several layers have bars, most of all in the first half and the middle, as UniFusion "
        "found. All equal: a plain mean, or weights that were never trained.",
        lambda axes: draw_weights(axes, weights),
    )


def _weights_in_words(weights: LayerWeights) -> str:
    order = weights.values.abs().argsort(descending=True)[:MOST_NAMED].tolist()
    word = "layer" if weights.layers is not None else "the layer read as number"
    names = weights.layers or range(len(weights.values))
    named = ", ".join(f"{names[at]} ({float(weights.values[at]):.3g})" for at in order)
    if bool((weights.values == weights.values[0]).all()):
        return f"All {len(weights.values)} layers have the same {weights.meaning}."
    return f"Largest {weights.meaning}: {word} {named}."


def dimension_panels(series: Sequence[Series], stats: Stats) -> list[Panel]:
    """Std and mean per dimension against reference statistics."""
    want = reference_of(stats)
    few = few_tokens(stats)
    here = " ".join(_off_in_words(each, stats) for each in series)
    here += f" Reference: {few}." if few else ""
    far = "; ".join(f"{each.label} {_shift(each, stats):.2f}" for each in series)
    return [
        Panel(
            f"Std of each of the {stats.width} dimensions",
            here,
            "How much each dimension varies, against what the image model was trained with; sink "
            "tokens left out. Good: dots on the line, typically off by less than 2 times. A worst "
            "dimension over 10 times off rules the picture: normalise dimension by dimension.",
            lambda axes: draw_dimensions(axes, series, want["std"], "std"),
        ),
        Panel(
            f"Mean of each of the {stats.width} dimensions",
            f"Typical distance of the means, in std of the reference: {far}.",
            "Good: dots along the line, typical distance under 0.5. A cloud without slope: these "
            "tokens live elsewhere than the text that the image model knows. Axes may be "
            "logarithmic at both ends, where a few dimensions are far out.",
            lambda axes: draw_dimensions(axes, series, want["mean"], "mean"),
        ),
    ]


def _off_in_words(series: Series, stats: Stats) -> str:
    middle, worst, at = off_by(series.std, reference_of(stats)["std"])
    return (
        f"{series.label[:1].upper()}{series.label[1:]} ({count_of(series.count)}): std off by "
        f"{_times(middle)} in the typical dimension, {_times(worst)} in the worst "
        f"(dimension {at})."
    )


def _times(factor: float) -> str:
    return f"× {factor:.3g}" if factor < 1000 else "over × 1000"


def _shift(series: Series, stats: Stats) -> float:
    want = reference_of(stats)
    apart = (series.mean - want["mean"]).abs() / want["std"].clamp_min(1e-6)
    return float(apart.median())
