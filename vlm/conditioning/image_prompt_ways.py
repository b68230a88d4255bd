"""What the ways of getting a picture into a prompt share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

import torch

from ..pictures.reference import ALL, PICTURE, POOLED, WORDS, PictureReference
from ..prompts.markers import rename
from ..running.hidden_states import HiddenStates
from ..tokens.select import select_layers
from .entries import Entry, read_entries, write_entries

KEPT = {ALL: "all", PICTURE: "image", WORDS: "text", POOLED: "image"}  # as Token Filter calls it
Numbered = Sequence[tuple[int, PictureReference]]


@dataclass(frozen=True)
class Words:
    """The words of an image prompt.

    Attributes:
        text: As they were typed.
        placed: Whether `<image1>` in them stands for the chain's first picture.
    """

    text: str
    placed: bool = False

    def around(self, views: Mapping[int, int]) -> str:
        """The words beside some pictures of the chain; those that are not there lose their names.

        Args:
            views: Of each picture's number in the chain (origin 1), in order, how many pictures the
                VLM is shown of it.
        """
        if not self.placed:
            return self.text
        ends = [*accumulate(views.values(), initial=1)]
        shown = (range(start, end) for start, end in pairwise(ends))
        return rename(self.text, dict(zip(views, shown, strict=True)))


class Way(Protocol):
    """What `image_prompt` asks of a way."""

    steps: list[str]

    def look(self, pictures: Numbered) -> None:
        """Gets everything ready that does not depend on the time."""

    def make(self, active: Numbered) -> list[Entry]:
        """The conditioning while these pictures count."""


def on_the_wire(entries: list[Entry], device: torch.device | str) -> list[Entry]:
    """Entries as the next node would get them: float32, on `device`."""
    return read_entries(write_entries(entries, device))


def gate(keyframes: Sequence[HiddenStates], device: torch.device | str) -> list[Entry]:
    """The target's layers of hidden states, whose depth has been reached."""
    return on_the_wire([Entry(select_layers(each), each.options) for each in keyframes], device)
