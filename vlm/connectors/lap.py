"""LAP Pool: several layers of a VLM pooled into one, by attention over layers or as a mean.

Source: UniFusion, sections 2 and 3 and appendix A.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..arguments import checked
from ..quoted import told
from ..running.hidden_states import HiddenStates
from ..tokens.layer_spec import LayerChoice, parse_layers
from ..tokens.seen import seen_by_target, written_beside
from ..tokens.tokens import Tokens
from .lap_blocks import LAP, pool_chunks, rows_at_once

AUTO = "auto"
PAD = "pad"


@checked
def lap_pool(
    h: HiddenStates,
    lap: LAP | None = None,
    layers: str | list[int] = AUTO,
    strengths: str | Mapping[int, float] = "",
    refiner: bool = True,
) -> Tokens:
    """Pools layers of hidden states; the model runs once, to the deepest of them, if at all.

    Args:
        h: Hidden states of one prompt.
        lap: Trained weights, `load_connector(file).module`; it runs where they are. None = the
            mean of the layers, weighed by their strengths: nothing is trained about it.
        layers, strengths: As in `choose_lap`.
        refiner: Whether the weights' refiner runs, over all tokens but padding.

    Returns:
        [B, N, D] in the states' dtype, with h's token map, without the leading tokens that the
        target never sees. Computed in float32.

    Raises:
        ValueError: As `choose_lap`; nothing but padding for the refiner to read.
    """
    choice = choose_lap(h, lap, layers, strengths)
    h = seen_by_target(h)
    h.reach(*choice.indices)
    device = h.store.device if lap is None else lap.projector.weight.device
    weights = torch.tensor(choice.weights, device=device)

    def stretch(start: int, stop: int) -> torch.Tensor:
        return h.stretch(start, stop, choice.indices).to(device)

    with torch.no_grad():
        if lap is None:
            weights /= weights.sum()
            rows = rows_at_once(device, 4 * 3 * h.width)  # as held, in float32, and pooled
            states = pool_chunks(stretch, h.n, lambda stack: stack, weights, h.dtype, rows)
        else:
            real = torch.tensor([[role != PAD for role in h.token_map["role"]]], device=device)
            if refiner and not real.any():
                raise ValueError(
                    "Only pad tokens are left, so there is nothing for the refiner to read. Set "
                    "`keep` to other roles."
                )
            states = lap(stretch, h.n, weights, refiner, real, h.dtype)
    return Tokens(states, h.token_map, written_beside(h))


def choose_lap(
    h: HiddenStates,
    lap: LAP | None = None,
    layers: str | list[int] = AUTO,
    strengths: str | Mapping[int, float] = "",
) -> LayerChoice:
    """Which layers `lap_pool` with these arguments pools, and how strong each is.

    Args:
        h: Hidden states; nothing is computed.
        lap: Trained weights; None = mean.
        layers: `auto` = those that the weights name, or every third from layer 2 on, without the
            last (UniFusion, section 3.1); or a choice that `parse_layers` reads, without weights.
        strengths: As in `parse_layer_strengths`: a factor on the pooling weight of a layer.

    Returns:
        Indices from 0 with a weight each, 1 where none is given.

    Raises:
        ValueError: The weights are for another width or number of layers; a layer that does not
            exist or is not among those pooled; strengths that leave nothing.
    """
    if lap is not None:
        _check_width(lap, h.width)
    if isinstance(layers, str) and layers.strip() == AUTO:
        indices = _trained_layers(lap, h.num_layers)
    else:
        indices = parse_pooled(layers, h.num_layers)
    if lap is not None and len(indices) != lap.sizes.layers:
        raise ValueError(
            f"{lap.origin.file} ({lap.title}) pools {lap.sizes.layers} layers, these are "
            f"{len(indices)}: {', '.join(map(str, indices))}. {_advice(lap)}"
        )
    given = parse_layer_strengths(strengths, h.num_layers)
    other = [layer for layer in given if layer not in indices]
    if other:
        raise ValueError(
            f"strengths names layer {other[0]}, which is not pooled; pooled are "
            f"{', '.join(map(str, indices))}. Name one of these, or add it to layers."
        )
    weights = tuple(given.get(layer, 1.0) for layer in indices)
    if lap is None and sum(weights) <= 0:
        raise ValueError(
            f"The strengths add up to {sum(weights):g}, a mean needs more than 0. Raise one, or "
            "connect LAP weights."
        )
    if not any(weights):
        raise ValueError("All strengths are 0, so nothing is left. Leave at least one layer in.")
    return LayerChoice(indices, weights, "mean" if lap is None else "lap")


def parse_pooled(spec: str | list[int], num_layers: int) -> tuple[int, ...]:
    """Layer indices from 0 out of `2, 5, 8`, `2:36:3` or `all`.

    Raises:
        ValueError: As `parse_layers`; layers with weights.
    """
    choice = parse_layers(spec, num_layers)
    if choice.weights is not None:
        raise ValueError(
            f"layers {told(spec)} has weights. Name the layers alone, and write weights into "
            "strengths."
        )
    return choice.indices


def parse_layer_strengths(spec: str | Mapping[int, float], num_layers: int) -> dict[int, float]:
    """A factor per layer out of `2:1, 5:0.5`, or a mapping; empty = none.

    Args:
        spec: As above; layers may count from the end.
        num_layers: L, the embeddings counted.

    Returns:
        Layer index from 0 to factor.

    Raises:
        ValueError: An item that cannot be read, a layer that does not exist or is named twice.
    """
    if isinstance(spec, Mapping):
        spec = ", ".join(f"{layer}:{float(factor)}" for layer, factor in spec.items())
    if not spec.strip():
        return {}
    choice = parse_layers(spec, num_layers, "weighted")
    strengths = dict(zip(choice.indices, choice.each_weight(), strict=True))
    if len(strengths) != len(choice.indices):
        raise ValueError(
            f"strengths {told(spec)} names a layer twice. Give each layer one strength."
        )
    return strengths


def _trained_layers(lap: LAP | None, num_layers: int) -> tuple[int, ...]:
    """The layers that the weights were trained on, or every third."""
    if lap is not None and lap.origin.layers is not None:
        deepest = max(lap.origin.layers)
        if deepest >= num_layers:
            raise ValueError(
                f"{lap.origin.file} ({lap.title}) reads layer {deepest}, this VLM has the layers "
                f"0 to {num_layers - 1}. {_advice(lap)}"
            )
        return lap.origin.layers
    indices = every_third(num_layers)
    if not indices:
        raise ValueError(
            f"This VLM has only {num_layers} layers, embeddings included, too few for every third "
            "of them. Name them in layers, such as 0,1."
        )
    return indices


def every_third(num_layers: int) -> tuple[int, ...]:
    """Every third layer from layer 2 on, without the last (UniFusion, section 3.1)."""
    return tuple(range(2, num_layers - 1, 3))


def _check_width(lap: LAP, width: int) -> None:
    if width != lap.sizes.width:
        raise ValueError(
            f"{lap.origin.file} ({lap.title}) reads {lap.sizes.width} dimensions, these hidden "
            f"states have {width}. {_advice(lap)}"
        )


def _advice(lap: LAP) -> str:
    if lap.origin.vlm:
        return f"It was made for {lap.origin.vlm}: load that model with `load`."
    return "Load the VLM that it was trained on, or name as many layers as it pools."
