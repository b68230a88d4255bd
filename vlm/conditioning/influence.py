"""What single images add to a conditioning, and more or less of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..arguments import need_length
from ..model import VLM
from ..quoted import told
from ..running.hidden_states import HiddenStates
from ..tokens.select import select_layers
from .entries import Entry

MOST_LETTERS = 4096  # of strengths


def parse_image_strengths(text: str) -> list[float]:
    """Reads "1, 0.5": a strength per image, or one for all.

    Raises:
        ValueError: Not numbers between commas.
    """
    need_length(text, "strengths", MOST_LETTERS)
    try:
        return [_finite(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"strengths is {told(text)}, expected numbers between commas, one per image or one for "
            "all, such as 1, 0.5."
        ) from error


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("neither NaN nor Inf")
    return value


def image_influence(
    model: VLM, text: str, images: Any, strengths: Sequence[float], **options: Any
) -> tuple[list[Entry], list[Entry]]:
    """The conditioning of a prompt with more or less of each image's influence.

    An image's influence is the conditioning with it minus the conditioning with it muted: its
    tokens stand at the same positions as plain placeholders, and everything else is as it was. All
    influences are taken from the whole prompt and added with (strength - 1).

    Args:
        model: The VLM.
        text: The prompt.
        images: As `VLM.encode` takes them.
        strengths: One per image in their order, or one for all; 1 = as it is, bit for bit, 0 = the
            image's influence is taken away, above 1 = more of it.
        **options: What else `VLM.encode` takes.

    Returns:
        The entries with these strengths, in float32 where one of them is not 1, and those as the
        prompt gives them.

    Raises:
        ValueError: No image, or another number of strengths than images.
    """
    whole = model.encode(text, images, **options)
    count = len(whole.prompt.vision_inputs)
    if not count:
        raise ValueError(
            "There is no image to weigh. Give at least one in `images`, or call `encode`."
        )
    if len(strengths) not in (1, count):
        raise ValueError(
            f"There are {count} images and {len(strengths)} strengths. Give one per image (a batch "
            "counts as several), or a single one for all."
        )
    plain = _entries(whole)
    shares = [strengths[number if len(strengths) > 1 else 0] - 1.0 for number in range(count)]
    weighed = [entry.tokens.states for entry in plain]
    if any(shares):  # in float32, and so the result: rounded, a small influence would be lost
        weighed = [states.float() for states in weighed]
    for number, share in enumerate(shares):
        if share == 0.0:
            continue
        muted = _entries(model.encode(text, images, mute=[number], **options))
        differences = [
            seen.tokens.states.float() - unseen.tokens.states.float()
            for seen, unseen in zip(plain, muted, strict=True)
        ]
        weighed = [
            states + share * added for states, added in zip(weighed, differences, strict=True)
        ]
    made = [
        replace(entry, tokens=replace(entry.tokens, states=states))
        for states, entry in zip(weighed, plain, strict=True)
    ]
    return made, plain


def in_time(weighed: list[Entry], plain: list[Entry], start: float, end: float) -> list[Entry]:
    """Gives a range of the schedule to the weighed entries and the rest to the plain ones.

    Args:
        weighed: Entries with strengths.
        plain: The same without.
        start, end: Where the range begins and ends, 0..1 of the schedule.

    Raises:
        ValueError: An empty range, or one outside 0..1.
    """
    if not 0.0 <= start < end <= 1.0:
        raise ValueError(
            f"The strengths hold from {start:g} to {end:g} of the schedule; expected a "
            "start_percent below end_percent, both in 0 to 1."
        )
    parts = (
        [entry.within(0.0, start) for entry in plain if start > 0.0],
        [entry.within(start, end) if (start, end) != (0.0, 1.0) else entry for entry in weighed],
        [entry.within(end, 1.0) for entry in plain if end < 1.0],
    )
    return [entry for part in parts for entry in part if entry is not None]


def _entries(states: HiddenStates) -> list[Entry]:
    """What the target reads, for each version of the weights."""
    for each in states.keyframes:
        each.reach_target()
    return [Entry(select_layers(each), each.options) for each in states.keyframes]
