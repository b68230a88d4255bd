"""A sweep: many conditionings of one encoded prompt, for every combination of some settings.

Every step is one of the library's, called as the separate nodes call it: `select_layers`,
`pool_tokens`, `filter_tokens`, `normalize` against the text, `mask_outliers`, `blend`. Such sweeps
of alpha, layer, kept tokens and normalisation are how the Qwen3-VL × Z-Image research found its
settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch

from ..arguments import checked
from ..running.hidden_states import HiddenStates
from ..tokens.blend import blend
from ..tokens.filter import filter_tokens, keep_roles
from ..tokens.normalize import normalize
from ..tokens.outliers import mask_outliers
from ..tokens.pool import pool_tokens
from ..tokens.select import choose_layers, select_layers
from ..tokens.stats import Stats, measure_stats
from ..tokens.tokens import Tokens
from .entries import Entry, map_tokens, pair
from .image_prompt_ways import on_the_wire
from .sweep_values import OFF, Combination, Steps

MOST_SHARED = 8  # results of a step that are kept: of 1000 tokens each takes 10 MB


@checked
def sweep(
    h: HiddenStates,
    text: list[Entry],
    combinations: Sequence[Combination],
    stats: Stats | None = None,
    device: torch.device | str = "cpu",
) -> list[list[Entry]]:
    """The conditioning of every combination; the model runs once, to the deepest layer of all.

    Args:
        h: Hidden states of one prompt.
        text: Entries of the text's own conditioning, which the picture's tokens are blended into.
        combinations: From `combine`.
        stats: What tokens are normalised to; None = the text's own.
        device: Where tokens are worked on, and where the results lie.

    Returns:
        Entries in the order of the combinations, float32, with the text's options.

    Raises:
        ValueError: A layer that does not exist, `pool` where `keep` leaves no picture, widths that
            do not fit, or what a step refuses.
    """
    settings = [each.steps for each in combinations]
    _check_pool(settings)
    deepest = [k for layer in {each.layer for each in settings} for k in _layers(h, layer)]
    for each in h.keyframes:
        each.reach(*deepest)
    reference = measure_stats(entry.tokens for entry in text) if stats is None else stats

    shared = lru_cache(MOST_SHARED)  # combinations have their first steps in common

    @shared
    def chosen(layer: str) -> list[Entry]:
        layers = [Entry(select_layers(each, layer), each.options) for each in h.keyframes]
        return on_the_wire(layers, device)

    @shared
    def kept(layer: str, pool: int, keep: str) -> list[Entry]:
        entries = chosen(layer)
        if pool:
            entries = map_tokens(entries, lambda tokens: pool_tokens(tokens, pool))
        return map_tokens(entries, lambda tokens: filter_tokens(tokens, keep))

    @shared
    def normal(
        first: tuple[str, int, str], mode: str, strength: float, outliers: str
    ) -> list[Entry]:
        settings = (reference, mode, strength, outliers)
        return map_tokens(kept(*first), lambda tokens: _normalised(tokens, *settings))

    made = []
    for s in settings:
        first = (s.layer, s.pool, s.keep)
        pictures = normal(first, s.normalisation, s.strength, s.outliers)
        made.append(_blended(text, pictures, s))
    return made


def _normalised(
    tokens: Tokens, reference: Stats, mode: str, strength: float, outliers: str
) -> Tokens:
    changed = normalize(tokens, reference, mode, strength=strength)
    if outliers == OFF or strength == 0:
        return changed
    return mask_outliers(changed, reference, outliers)


def _blended(text: list[Entry], pictures: list[Entry], steps: Steps) -> list[Entry]:
    return [
        replace(main, tokens=blend(other.tokens, main.tokens, steps.alpha, steps.method, cut=True))
        for main, other in pair(text, pictures)
    ]


def _layers(h: HiddenStates, layer: str) -> tuple[int, ...]:
    return choose_layers(h, layer).indices


def _check_pool(settings: Sequence[Steps]) -> None:
    """Pooling of tokens that are then left out would give the same picture for every size."""
    pooled = [each for each in settings if each.pool]
    if pooled and not any("image" in keep_roles(each.keep) for each in pooled):
        raise ValueError(
            f"`pool` averages the tokens of pictures, and `keep` {pooled[0].keep} leaves them all "
            "out. Set `keep` to all or image, or `pool` to 0."
        )
