"""Hidden layer selection: the gate from hidden states to tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ..arguments import checked
from .tokens import Tokens

if TYPE_CHECKING:
    from ..running.hidden_states import HiddenStates

COMBINES = ("single", "mean", "weighted", "concat")
_INT = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_HOW = 'Write layers as "-2", "9,18,27", "2:36:3", "all" or, with weights, "-2:0.7, -8:0.3".'


@dataclass(frozen=True)
class LayerChoice:
    """Which layers, and how they become one.

    Attributes:
        indices: layers from 0 (embeddings), in the order asked for.
        weights: one per layer, used as given (they need not sum to 1); None without weights.
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
        items = [item.strip() for item in spec.split(",") if item.strip()]
    else:
        items = [str(k) for k in ([spec] if isinstance(spec, int) else spec)]
    if combine == "weighted" or any(_is_weighted(item) for item in items):
        pairs = [_weighted(item, num_layers) for item in items]
        choice = LayerChoice(tuple(k for k, _ in pairs), tuple(w for _, w in pairs))
    else:
        choice = LayerChoice(tuple(k for item in items for k in _layers(item, num_layers)))
    if not choice.indices:
        raise ValueError(f"{spec!r} chooses no layer out of 0 to {num_layers - 1}. {_HOW}")
    return choice


def choose_layers(
    h: "HiddenStates",
    layers: str | int | Sequence[int] = "auto",
    combine: str | None = None,
    final_norm: bool | None = None,
) -> LayerChoice:
    """What ``select_layers`` with these arguments does: layers and combination, ``auto`` resolved.

    Args:
        h: hidden states; nothing is computed.
        layers, combine, final_norm: as in ``select_layers``.

    Returns:
        ``LayerChoice`` with everything decided.

    Raises:
        ValueError: as ``select_layers``.
    """
    if combine is not None and combine not in COMBINES:
        raise ValueError(f"There is no `combine` {combine!r}. Choose {', '.join(COMBINES)}.")
    auto = isinstance(layers, str) and layers.strip() == "auto"
    spec = _target_layers(h) if auto else layers
    choice = parse_layers(spec, h.num_layers, combine)
    if combine is None:
        combine = _natural_combine(h, choice)
    if combine == "single" and len(choice.indices) > 1:
        raise ValueError(
            f"combine single takes one layer, {layers!r} means {len(choice.indices)}. Name one "
            f"layer, or set combine to mean, weighted or concat."
        )
    if choice.weights is not None and combine != "weighted":
        raise ValueError(
            f"{layers!r} has weights, combine {combine} does not read them. Set combine to "
            f"weighted."
        )
    if final_norm is None:
        final_norm = getattr(h.target, "final_norm", True)
    return replace(choice, combine=combine, final_norm=bool(final_norm))


@checked
def select_layers(
    h: "HiddenStates",
    layers: str | int | Sequence[int] = "auto",
    combine: str | None = None,
    final_norm: bool | None = None,
) -> Tokens:
    """Take layers out of hidden states; the model runs once, to the deepest of them, if at all.

    Args:
        h: hidden states of one prompt.
        layers: ``auto`` = the target's (its layers for prompts with pictures where it has such and
            the model saw pictures), or a choice that ``parse_layers`` reads.
        combine: single (one layer); mean; weighted (sum of layer · weight, weights as given);
            concat (``[B, N, L·D]``, layer-major within a token: all of the first layer's
            dimensions, then the next's). None: weighted where there are weights, single for one
            layer, else the target's way, or mean if the target reads a single layer.
        final_norm: whether the last layer is normed; None = as the target reads it.

    Returns:
        ``[B, N, D]`` (concat: L·D wide) in the states' dtype, sums in float32, with h's token map,
        without the leading tokens that the target never sees (``h.dropped``).

    Raises:
        ValueError: a layer that does not exist, a combination that does not fit, or ``auto`` with a
            target that reads no layer.
    """
    choice = choose_layers(h, layers, combine, final_norm)
    if h.dropped:
        h = h.take(range(h.dropped, h.n))
    if len(choice.indices) == 1:
        states = h.layer(choice.indices[0], final_norm=choice.final_norm)
        if choice.combine == "weighted":
            states = (states.float() * choice.each_weight()[0]).to(states.dtype)
        return Tokens(states, h.token_map)
    stack = h.layers(list(choice.indices), final_norm=choice.final_norm)
    if choice.combine == "concat":
        states = stack.transpose(1, 2).flatten(2)
    elif choice.combine == "mean":
        states = stack.mean(dim=1, dtype=torch.float32).to(stack.dtype)
    else:
        total = torch.zeros_like(stack[:, 0], dtype=torch.float32)
        for i, weight in enumerate(choice.each_weight()):
            total.add_(stack[:, i], alpha=weight)
        states = total.to(stack.dtype)
    return Tokens(states, h.token_map)


def _target_layers(h: "HiddenStates") -> tuple[int, ...]:
    """The layers that the target of ``h`` reads."""
    found = None
    if h.has_images:
        found = getattr(h.target, "layers_with_images", None)
    if found is None:
        found = getattr(h.target, "layers", None)
    if found is None:
        name = getattr(h.target, "title", None) or "chosen"
        raise ValueError(
            f"Target {name} reads no layer of a VLM as it is, so `layers` auto means nothing here. "
            "Set `layers` to a number such as -2, or use `load_connector` if the target needs a "
            "connector."
        )
    return found


def _natural_combine(h: "HiddenStates", choice: LayerChoice) -> str:
    if choice.weights is not None:
        return "weighted"
    if len(choice.indices) == 1:
        return "single"
    way = getattr(h.target, "combine", None)
    return way if way in ("mean", "concat") else "mean"


def _is_weighted(item: str) -> bool:
    """Whether ``item`` can only be layer:weight, because what follows its colon is no integer."""
    layer, colon, weight = item.partition(":")
    readable = _INT.fullmatch(layer.strip()) and _NUMBER.fullmatch(weight.strip())
    return bool(colon and readable) and not _INT.fullmatch(weight.strip())


def _weighted(item: str, num_layers: int) -> tuple[int, float]:
    layer, colon, weight = (part.strip() for part in item.partition(":"))
    if not _INT.fullmatch(layer) or (colon and not _NUMBER.fullmatch(weight)):
        raise ValueError(f'Expected layer:weight such as "-2:0.7", this is {item!r}. {_HOW}')
    if not colon:
        raise ValueError(
            f"Layer {item} has no weight. combine weighted needs one for every layer, such as "
            f'"-2:0.7, -8:0.3"; combine mean weighs all the same.'
        )
    return _layer(int(layer), num_layers), float(weight)


def _layers(item: str, num_layers: int) -> list[int]:
    """The layers of one item without weight: ``all``, a slice or a layer."""
    if item == "all":
        return list(range(num_layers))
    parts = [part.strip() for part in item.split(":")]
    if len(parts) > 3 or not all(_INT.fullmatch(part) or not part for part in parts):
        raise ValueError(f"{item!r} is no choice of layers. {_HOW}")
    if len(parts) == 1:
        return [_layer(int(item), num_layers)]
    bounds = [int(part) if part else None for part in parts]
    if bounds[2:] == [0]:
        raise ValueError(f"The step of {item!r} is 0. {_HOW}")
    return list(range(num_layers))[slice(*bounds)]


def _layer(k: int, num_layers: int) -> int:
    """Layer ``k`` counted from 0."""
    if not -num_layers <= k < num_layers:
        raise ValueError(
            f"Layer {k} does not exist: this model has layers 0 to {num_layers - 1} (or "
            f"{-num_layers} to -1), where 0 is the embeddings. Set layers to some of these."
        )
    return k % num_layers
