"""What the ways of getting a picture into a prompt share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from ..pictures.reference import ALL, PICTURE, POOLED, WORDS, PictureReference
from ..running.hidden_states import HiddenStates
from ..tokens.select import select_layers
from .entries import Entry, read_entries, write_entries

KEPT = {ALL: "all", PICTURE: "image", WORDS: "text", POOLED: "image"}  # as Token Filter calls it
Numbered = Sequence[tuple[int, PictureReference]]


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
