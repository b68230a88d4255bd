"""Pictures blended into the words, for targets whose own text encoder is blind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import torch

from ..model import VLM
from ..pictures.reference import POOLED, PictureReference, View, views_of
from ..running.hidden_states import HiddenStates
from ..targets import Target
from ..tokens.blend import blend, resolve_method
from ..tokens.filter import filter_tokens
from ..tokens.normalize import normalize, resolve_mode
from ..tokens.pool import pool_tokens
from ..tokens.select import choose_layers
from ..tokens.stats import measure_stats
from ..tokens.token_weights import apply_mask, image_grid, resample_mask
from .entries import Entry, map_tokens, pair
from .image_prompt_ways import KEPT, Numbered, Words, gate

USUAL_ALPHA = 0.3  # the research's share of a picture, at strength 1


class Blended:
    """Each picture's tokens, normalised against the words', blended into them."""

    def __init__(
        self,
        model: VLM,
        prompt: Words,
        goal: Target,
        words: Callable[[], list[Entry]],
        device: torch.device | str,
    ):
        """Takes what the pictures meet; nothing runs."""
        self._model, self._prompt, self._goal = model, prompt, goal
        self._words, self._device = words, device
        self._seen: dict[int, list[Entry]] = {}
        self._told: dict[int, str] = {}
        self._blends: dict[int, list[str]] = {}

    @property
    def steps(self) -> list[str]:
        """What became of each picture."""
        return [
            f"picture {number}: {told}, `blend` {' or '.join(dict.fromkeys(self._blends[number]))}"
            for number, told in self._told.items()
            if number in self._blends
        ]

    def look(self, pictures: Numbered) -> None:
        """Runs the VLM once per picture."""
        words = self._words()
        width = self._model.backbone.width
        if self._goal.combine == "concat" and self._goal.layers is not None:
            width *= len(self._goal.layers)
        if words[0].tokens.width != width:
            raise ValueError(
                f"The words' conditioning is {words[0].tokens.width} wide, this model's would be "
                f"{width}. Connect a model of the same width as {self._goal.encoder}, "
                f"{self._goal.title}'s text encoder."
            )
        stats = measure_stats(entry.tokens for entry in words)
        for number, picture in pictures:
            kept = self._tokens(number, picture)
            self._told[number] += f", `normalize` {resolve_mode(kept[0].tokens, 'auto')}"
            self._seen[number] = map_tokens(kept, lambda tokens: normalize(tokens, stats))

    def make(self, active: Numbered) -> list[Entry]:
        """Blends the active pictures into the words, one after another."""
        entries = self._words()
        alphas = blend_alphas([picture.strength for _, picture in active])
        for (number, _), alpha in zip(active, alphas, strict=True):
            pairs = pair(entries, self._seen[number])
            main, other = pairs[0]
            method = resolve_method(other.tokens, main.tokens, "auto")
            self._blends.setdefault(number, []).append(f"{method} alpha {alpha:.3g}")
            entries = [
                replace(main, tokens=blend(other.tokens, main.tokens, alpha))
                for main, other in pairs
            ]
        return entries

    def _tokens(self, number: int, picture: PictureReference) -> list[Entry]:
        """The tokens of a picture that go on."""
        views = views_of(picture)
        states = self._model.encode(
            self._prompt.around({number: len(views)}),
            [view.image for view in views],
            target=self._goal.name,
            max_pixels=picture.max_pixels,
            placed=self._prompt.placed,
        )
        told = "`encode`"
        keyframes = list(states.keyframes)
        for each in keyframes:
            each.reach_target()
        if any(view.weights is not None for view in views):
            keyframes = [_weigh_states(each, views) for each in keyframes]
            told += ", `apply_mask`"
        if picture.keep == POOLED:
            keyframes = [pool_tokens(each, picture.pool_size) for each in keyframes]
            told += f", `pool_tokens` {picture.pool_size}"
        layers = choose_layers(states).indices
        keep = KEPT[picture.keep]
        told += f", `select_layers` {', '.join(map(str, layers))}, `filter_tokens` {keep}"
        self._told[number] = told
        return map_tokens(gate(keyframes, self._device), lambda each: filter_tokens(each, keep))


def blend_alphas(strengths: Sequence[float]) -> list[float]:
    """Alphas of blends one after another, so that no picture gains or loses by its place.

    A picture alone has alpha a = 0.3 · strength. Several leave the words what blends of each one's
    a would leave them, prod(1 - a), and share the rest in proportion to a.

    Args:
        strengths: One per picture, above 0, in the order of the blends.
    """
    alphas = [USUAL_ALPHA * strength for strength in strengths]
    if len(alphas) == 1:
        return alphas
    pictures = 1 - prod(1 - alpha for alpha in alphas)
    made, taken = [], 0.0
    for alpha in reversed(alphas):  # the last blend takes its share of everything before it
        share = pictures * alpha / sum(alphas)
        made.append(share / (1 - taken))
        taken += share
    return made[::-1]


def _weigh_states(states: HiddenStates, views: Sequence[View]) -> HiddenStates:
    for number, view in enumerate(views):
        if view.weights is not None:
            _, rows, cols = image_grid(states.token_map, number)
            states = apply_mask(states, resample_mask(view.weights, rows, cols), number)
    return states
