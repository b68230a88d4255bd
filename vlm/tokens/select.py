"""Hidden layer selection: the gate from hidden states to tokens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..arguments import checked
from ..finite import LOUD, need_finite
from ..quoted import told
from .layer_spec import LayerChoice, parse_layers
from .seen import seen_by_target, written_beside
from .tokens import Tokens

if TYPE_CHECKING:
    from ..running.hidden_states import HiddenStates

LARGEST_GAIN = 100.0
COMBINES = ("single", "mean", "weighted", "concat")


def choose_layers(
    h: "HiddenStates",
    layers: str | int | Sequence[int] = "auto",
    combine: str | None = None,
    final_norm: bool | None = None,
    gains: Sequence[float] | None = None,
) -> LayerChoice:
    """What ``select_layers`` with these arguments does: layers and combination, ``auto`` resolved.

    Args:
        h: hidden states; nothing is computed.
        layers, combine, final_norm, gains: as in ``select_layers``.

    Returns:
        ``LayerChoice`` with everything decided.

    Raises:
        ValueError: as ``select_layers``.
    """
    if combine is not None and combine not in COMBINES:
        raise ValueError(f"There is no `combine` {told(combine)}. Choose {', '.join(COMBINES)}.")
    auto = isinstance(layers, str) and layers.strip() == "auto"
    spec = _target_layers(h) if auto else layers
    choice = parse_layers(spec, h.num_layers, combine)
    if combine is None:
        combine = _natural_combine(h, choice)
    if combine == "single" and len(choice.indices) > 1:
        raise ValueError(
            f"combine single takes one layer, {told(layers)} means {len(choice.indices)}. Name one "
            "layer, or set combine to mean, weighted or concat."
        )
    if choice.weights is not None and combine not in ("weighted", "concat"):
        raise ValueError(
            f"{told(layers)} has weights, combine {combine} does not read them. Set combine to "
            "weighted or concat."
        )
    if gains is not None:
        choice = replace(choice, weights=_gains(gains, choice, combine))
    if final_norm is None:
        final_norm = getattr(h.target, "final_norm", True)
    return replace(choice, combine=combine, final_norm=bool(final_norm))


@checked
def select_layers(
    h: "HiddenStates",
    layers: str | int | Sequence[int] = "auto",
    combine: str | None = None,
    final_norm: bool | None = None,
    gains: Sequence[float] | None = None,
    hold_norm: bool = True,
) -> Tokens:
    """Take layers out of hidden states; the model runs once, to the deepest of them, if at all.

    Args:
        h: hidden states of one prompt.
        layers: ``auto`` = the target's (its layers for prompts with pictures where it has such and
            the model saw pictures), or a choice that ``parse_layers`` reads.
        combine: single (one layer); mean; weighted (sum of layer · weight, weights as given);
            concat (``[B, N, L·D]``, layer-major within a token: all of the first layer's
            dimensions, then the next's, unless the target reads it the other way). None: weighted
            where there are weights, single for one layer, else the target's way, or mean if the
            target reads a single layer.
        final_norm: whether the last layer is normed; None = as the target reads it.
        gains: concat: what each layer is multiplied by, in the order of the layers; the weights of
            ``layers`` do the same. None = 1 for all, bit for bit.
        hold_norm: concat with gains: each token is scaled back to the norm that it has without
            them, so that the gains move weight between layers and do not make the token louder.

    Returns:
        ``[B, N, D]`` (concat: L·D wide) in the states' dtype, sums in float32, with h's token map,
        without the tokens that the target never sees, with what its text encoder writes beside.

    Raises:
        ValueError: a layer that does not exist, a combination that does not fit, ``auto`` with a
            target that reads no layer, or a sum too large for the dtype.
    """
    choice = choose_layers(h, layers, combine, final_norm, gains)
    tokens = _select(h, choice, hold_norm)
    if choice.weights is not None or choice.combine == "mean":  # what only was taken is finite
        names = ", ".join(map(str, choice.indices[:12]))
        what = f"The {choice.combine} of layers {names} in {str(tokens.states.dtype)[6:]}"
        need_finite(tokens.states, what, LOUD)
    return tokens


def _select(h: "HiddenStates", choice: LayerChoice, hold_norm: bool) -> Tokens:
    h = seen_by_target(h)
    beside = written_beside(h)
    if len(choice.indices) == 1:
        states = h.layer(choice.indices[0], final_norm=choice.final_norm)
        if choice.combine == "weighted":
            states = (states.float() * choice.each_weight()[0]).to(states.dtype)
        elif choice.combine == "concat":
            states = _side_by_side(states[:, None], choice.weights, hold_norm)
        return Tokens(states, h.token_map, beside)
    stack = h.layers(list(choice.indices), final_norm=choice.final_norm)
    if choice.combine == "concat":
        states = _side_by_side(stack, choice.weights, hold_norm)
        if h.target.dimension_major:
            states = states.unflatten(2, (len(choice.indices), -1)).transpose(2, 3).flatten(2)
    elif choice.combine == "mean":
        states = stack.mean(dim=1, dtype=torch.float32).to(stack.dtype)
    else:
        total = torch.zeros_like(stack[:, 0], dtype=torch.float32)
        for i, weight in enumerate(choice.each_weight()):
            total.add_(stack[:, i], alpha=weight)
        states = total.to(stack.dtype)
    return Tokens(states, h.token_map, beside)


def _side_by_side(
    stack: torch.Tensor, gains: Sequence[float] | None, hold_norm: bool
) -> torch.Tensor:
    """Layers ``[B, L, N, D]`` as ``[B, N, L·D]``, each times its gain."""
    plain = stack.transpose(1, 2).flatten(2)
    if gains is None:
        return plain
    by = torch.tensor(gains, device=stack.device).repeat_interleave(stack.shape[-1])
    louder = plain.float() * by
    if hold_norm:
        wanted, found = (each.norm(dim=-1, keepdim=True) for each in (plain.float(), louder))
        louder *= wanted / found.clamp_min(torch.finfo(torch.float32).tiny)
    return louder.to(stack.dtype)


def _gains(gains: Sequence[float], choice: LayerChoice, combine: str) -> tuple[float, ...]:
    """The gains of a concatenation, checked."""
    if combine != "concat":
        raise ValueError(
            f"`gains` are for layers side by side, `combine` is {combine}. Set `combine` to concat."
        )
    if choice.weights is not None:
        raise ValueError("Both `layers` and `gains` weigh the layers. Leave one of the two.")
    if len(gains) != len(choice.indices):
        raise ValueError(
            f"There are {len(gains)} `gains` for {len(choice.indices)} layers "
            f"({', '.join(map(str, choice.indices[:40]))}). Give one for each."
        )
    if not any(gains):
        raise ValueError("All `gains` are 0, so nothing is left. Give at least one layer a gain.")
    for gain in gains:
        if not abs(gain) <= LARGEST_GAIN:  # NaN too
            raise ValueError(
                f"A gain of {gain:g} is out of range: `gains` go from -{LARGEST_GAIN:g} to "
                f"{LARGEST_GAIN:g}; 1 leaves a layer as it is."
            )
    return tuple(float(gain) for gain in gains)


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
