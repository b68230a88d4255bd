"""Layers as people write them: "-2", "9,18,27", "2:36:3", "all", "-2:0.7, -8:0.3"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..arguments import need_length
from ..quoted import told

MOST_LETTERS = 4096  # of a choice; 250 layers with weights
MOST_GAINS = 512
_MOST_TIMES = 4  # a choice may name each layer so often
_MOST_DIGITS = 9
_LARGEST_WEIGHT = 1e6
_INT = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_HOW = 'Write layers as "-2", "9,18,27", "2:36:3", "all" or, with weights, "-2:0.7, -8:0.3".'


@dataclass(frozen=True)
class LayerChoice:
    """Which layers, and how they become one.

    Attributes:
        indices: layers from 0 (embeddings), in the order asked for.
        weights: one per layer, used as given (they need not sum to 1): shares of weighted, gains
            of concat; None without weights.
        combine: single | mean | weighted | concat; None where not decided.
        final_norm: whether the last layer comes with the model's final norm.
    """

    indices: tuple[int, ...]
    weights: tuple[float, ...] | None = None
    combine: str | None = None
    final_norm: bool = True

    def each_weight(self) -> tuple[float, ...]:
        """The weights, for a choice that has them.

        Raises:
            ValueError: It has none.
        """
        if self.weights is None:
            raise ValueError(f"The layers {self.indices} were chosen without weights. {_HOW}")
        return self.weights


def parse_layers(
    spec: str | int | Sequence[int], num_layers: int, combine: str | None = None
) -> LayerChoice:
    """Read a choice of layers.

    ``spec`` is a list of items with commas between: a layer (``-2``), a Python slice over the
    layers (``2:36:3``, ``-4:``; like Python's it is cut to the layers there are), ``all``, or a
    layer with a weight (``-2:0.7``). ``a:b`` could be both: the spec has weights when ``combine``
    is ``weighted``, or when at least one ``a:b`` has a b with a decimal point or exponent; then all
    its items are read as ``layer:weight``. So ``2:36`` is a slice, ``2:0.5`` and ``-2:1.0`` are
    weights, and ``-2:0.7, -8:1`` are two.

    Args:
        spec: as above; or one layer, or a sequence of layers, as integers.
        num_layers: L, the embeddings counted; layers go from 0 to L - 1, or from -L to -1.
        combine: only whether it is ``weighted`` matters here.

    Returns:
        ``LayerChoice`` with indices from 0, in order, repetitions kept; combine and final_norm
        open.

    Raises:
        ValueError: an unreadable item, a layer that does not exist, no layer, or a missing weight.
    """
    if isinstance(spec, str):
        need_length(spec, "layers", MOST_LETTERS)
        items = [item.strip() for item in spec.split(",") if item.strip()]
    else:
        items = [str(k) for k in ([spec] if isinstance(spec, int) else spec)]
    if combine == "weighted" or any(_is_weighted(item) for item in items):
        pairs = [_weighted(item, num_layers) for item in items]
        choice = LayerChoice(tuple(k for k, _ in pairs), tuple(w for _, w in pairs))
    else:
        choice = LayerChoice(_chosen(items, num_layers))
    if not choice.indices:
        raise ValueError(f"{told(spec)} chooses no layer out of 0 to {num_layers - 1}. {_HOW}")
    return choice


def _chosen(items: Sequence[str], num_layers: int) -> tuple[int, ...]:
    """The layers of all items, stopped before there are more than any choice needs."""
    found: list[int] = []
    for item in items:
        found += _layers(item, num_layers)
        if len(found) > _MOST_TIMES * num_layers:
            raise ValueError(
                f"`layers` names over {_MOST_TIMES * num_layers} layers, and this model has "
                f"{num_layers}. Name each once."
            )
    return tuple(found)


def parse_gains(text: str) -> list[float] | None:
    """Reads gains from text, one for each layer: ``"1, 1, 0.5"``; None where it is empty.

    Raises:
        ValueError: Something that is no number, or more than there can be layers.
    """
    need_length(text, "gains", MOST_GAINS * 24)
    parts = [part.strip() for part in text.split(",", MOST_GAINS)] if text.strip() else []
    many = len(parts) > MOST_GAINS
    wrong = [part for part in parts if not _NUMBER.fullmatch(part)]
    if many or wrong:
        what = f"there are over {MOST_GAINS}" if many else f"{wrong[0][:40]!r} is no number"
        raise ValueError(
            f"`gains` cannot be read: {what}. Write one for each layer, such as 1, 1, 0.5, or "
            "leave it empty."
        )
    return [_weight(part, "gain") for part in parts] or None


def _is_weighted(item: str) -> bool:
    """Whether ``item`` can only be layer:weight, because what follows its colon is no integer."""
    layer, colon, weight = item.partition(":")
    readable = _INT.fullmatch(layer.strip()) and _NUMBER.fullmatch(weight.strip())
    return bool(colon and readable) and not _INT.fullmatch(weight.strip())


def _weighted(item: str, num_layers: int) -> tuple[int, float]:
    layer, colon, weight = (part.strip() for part in item.partition(":"))
    if not _INT.fullmatch(layer) or (colon and not _NUMBER.fullmatch(weight)):
        raise ValueError(f'Expected layer:weight such as "-2:0.7", this is {told(item)}. {_HOW}')
    if not colon:
        raise ValueError(
            f"Layer {_whole(layer)} has no weight. combine weighted needs one for every layer, "
            f'such as "-2:0.7, -8:0.3"; combine mean weighs all the same.'
        )
    return _layer(_whole(layer), num_layers), _weight(weight, "weight")


def _layers(item: str, num_layers: int) -> list[int]:
    """The layers of one item without weight: ``all``, a slice or a layer."""
    if item == "all":
        return list(range(num_layers))
    parts = [part.strip() for part in item.split(":")]
    if len(parts) > 3 or not all(_INT.fullmatch(part) or not part for part in parts):
        raise ValueError(f"{told(item)} is no choice of layers. {_HOW}")
    if len(parts) == 1:
        return [_layer(_whole(item), num_layers)]
    bounds = [_whole(part) if part else None for part in parts]
    if bounds[2:] == [0]:
        raise ValueError(f"The step of {told(item)} is 0. {_HOW}")
    return list(range(num_layers))[slice(*bounds)]


def _whole(digits: str) -> int:
    """A whole number of text that is one."""
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"{told(digits)} is no layer of any model. {_HOW}")
    return int(digits)


def _weight(number: str, what: str) -> float:
    """A factor of a layer of text that is a number."""
    value = float(number)
    if abs(value) > _LARGEST_WEIGHT:
        raise ValueError(
            f"The {what} {told(number)} is larger than {_LARGEST_WEIGHT:g}, and no sum of layers "
            "holds it. Write one such as 0.7."
        )
    return value


def _layer(k: int, num_layers: int) -> int:
    """Layer ``k`` counted from 0."""
    if not -num_layers <= k < num_layers:
        raise ValueError(
            f"Layer {k} does not exist: this model has layers 0 to {num_layers - 1} (or "
            f"{-num_layers} to -1), where 0 is the embeddings. Set layers to some of these."
        )
    return k % num_layers
