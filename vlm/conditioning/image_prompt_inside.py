"""Pictures in the prompt itself, for targets whose text encoder sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch

from ..model import VLM
from ..pictures.reference import ALL, POOLED, WORDS, View, views_of
from ..running.hidden_states import HiddenStates
from ..targets import Target
from ..tokens.blend import blend
from ..tokens.filter import filter_tokens
from ..tokens.pool import pool_tokens
from ..tokens.token_weights import apply_mask, image_grid, resample_mask
from .entries import Entry, map_tokens, pair
from .image_prompt_ways import KEPT, Numbered, Words, gate, on_the_wire
from .influence import image_influence


class InPrompt:
    """The pictures stand in the prompt, and the target's own kind of encoder sees them.

    A picture of strength s below 1 is in the prompt for the share s of what the diffusion model
    predicts: entries with and without it stand side by side, weighed by ComfyUI's `strength`. No
    strength of tokens would do: those of a picture change the result by being there, however small.
    """

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
        self._made: dict[tuple[int, ...], list[Entry]] = {}
        self.steps: list[str] = []

    @staticmethod
    def entries_of(states: HiddenStates, device: torch.device | str) -> list[Entry]:
        """What the target reads of hidden states."""
        for each in states.keyframes:
            each.reach_target()
        return gate(list(states.keyframes), device)

    def look(self, pictures: Numbered) -> None:
        """Refuses pictures that one prompt cannot hold together."""
        for name in ("keep", "max_pixels"):
            values = dict.fromkeys(getattr(picture, name) for _, picture in pictures)
            if len(values) > 1:
                given = " and ".join(str(value or "the target's") for value in values)
                raise ValueError(
                    f"{self._goal.title} sees all pictures in one prompt, and {name} is {given}. "
                    "Set it to the same on every Picture Reference of the chain."
                )

    def make(self, active: Numbered) -> list[Entry]:
        """A prompt for each share of the prediction, with the pictures that count in it."""
        entries = []
        for share, counted in shares(active):
            made = self._with(counted) if counted else self._words()
            entries += [entry.weighted(share) for entry in made]
            if share != 1.0:
                self._tell(f"{share:.3g} of the prediction {_of(counted)}")
        return entries

    def _with(self, pictures: Numbered) -> list[Entry]:
        """The prompt with these pictures in it, encoded once."""
        numbers = tuple(number for number, _ in pictures)
        if numbers not in self._made:
            self._made[numbers] = self._encode(pictures)
        return self._made[numbers]

    def _encode(self, pictures: Numbered) -> list[Entry]:
        shown = {number: views_of(picture) for number, picture in pictures}
        views = [
            (view, max(picture.strength, 1.0))
            for number, picture in pictures
            for view in shown[number]
        ]
        strengths = [strength for _, strength in views]
        first = pictures[0][1]
        weighed, _ = image_influence(
            self._model,
            self._prompt.around({number: len(each) for number, each in shown.items()}),
            [view.image for view, _ in views],
            strengths,
            target=self._goal.name,
            max_pixels=first.max_pixels,
            placed=self._prompt.placed,
        )
        entries = on_the_wire(weighed, self._device)
        told = "`encode`, `select_layers` auto"
        if any(strength != 1.0 for strength in strengths):
            told += ", image influence " + ", ".join(f"{strength:g}" for strength in strengths)
        if any(view.weights is not None for view, _ in views):
            for number, (view, _) in enumerate(views):
                entries = [_weigh_entry(entry, number, view) for entry in entries]
            told += ", `apply_mask`"
        entries, kept = self._keep(entries, pictures)
        self._tell(f"prompt {_of(pictures)}: {told}{kept}, {entries[0].tokens.n} tokens")
        return entries

    def _keep(self, entries: list[Entry], pictures: Numbered) -> tuple[list[Entry], str]:
        """What goes on of a prompt with pictures, and what was done for it."""
        keep = pictures[0][1].keep
        if keep == POOLED:
            size = sum(picture.pool_size for _, picture in pictures)
            return map_tokens(entries, lambda each: pool_tokens(each, size)), (
                f", `pool_tokens` {size}"
            )
        if keep == ALL:
            return entries, ""
        told = f", `filter_tokens` {KEPT[keep]}"
        kept = map_tokens(entries, lambda each: filter_tokens(each, KEPT[keep]))
        if keep == WORDS:
            return kept, told
        beside = [
            replace(main, tokens=blend(other.tokens, main.tokens, method="concat"))
            for main, other in pair(self._words(), kept)
        ]
        return beside, f"{told}, `blend` concat"

    def _tell(self, step: str) -> None:
        if step not in self.steps:
            self.steps.append(step)


def shares(active: Numbered) -> list[tuple[float, Numbered]]:
    """Shares of the prediction that sum to 1, each with the pictures that count in it.

    A picture of strength s below 1 counts in shares that sum to s, one of 1 or more in all. The
    pictures of a share are the strongest ones, so that there are no more shares than strengths.

    Args:
        active: Pictures with a strength above 0.

    Returns:
        The share of all pictures first; one without a picture, if there is one, last.
    """
    edges = sorted({0.0, 1.0}.union(min(picture.strength, 1.0) for _, picture in active))
    return [
        (high - low, [each for each in active if each[1].strength >= high])
        for low, high in pairwise(edges)
    ]


def _of(pictures: Numbered) -> str:
    """`with pictures 1, 2`."""
    if not pictures:
        return "with the words alone"
    plural = "s" if len(pictures) > 1 else ""
    return f"with picture{plural} " + ", ".join(str(number) for number, _ in pictures)


def _weigh_entry(entry: Entry, number: int, view: View) -> Entry:
    if view.weights is None:
        return entry
    _, rows, cols = image_grid(entry.tokens.token_map, number)
    weights = resample_mask(view.weights, rows, cols)
    return replace(entry, tokens=apply_mask(entry.tokens, weights, number))
