"""Alpha over the sampling schedule: a blend that fades in or out, in a few ranges of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from ..arguments import checked
from ..quoted import told
from ..tokens.alphas import SCHEDULES, schedule_alphas
from ..tokens.tokens import Tokens
from .entries import Entry

MOST_RANGES = 32
# Start and end in the schedule, and the alpha in between.
Step = tuple[float, float, float]


@checked
def alpha_ramp(
    first: float,
    last: float,
    curve: str = "linear",
    ranges: int = 4,
    start: float = 0.0,
    end: float = 1.0,
) -> list[Step]:
    """Alpha by ranges of the sampling schedule.

    Before `start` it is `first`, after `end` it is `last`, both exactly. In between lie `ranges`
    ranges of the same length: the first of them has `first`, the last `last`, and those between
    lie on the curve. Ranges of the same alpha are joined; neighbours share their edge, as
    `hand_over` does.

    Args:
        first, last: Alpha, 0..1.
        curve: As the schedules of `blend`: constant (`first` throughout), linear, ease_in,
            ease_out.
        ranges: From 2 to `MOST_RANGES`.
        start, end: Where the ramp begins and ends, 0..1 of the schedule.

    Returns:
        (start, end, alpha), from 0 to 1 without gaps.

    Raises:
        ValueError: A number out of range, or an end that is not behind the start.
    """
    _check(first, last, curve, ranges, start, end)
    if curve == "constant" or first == last:
        return [(0.0, 1.0, first)]
    inner = schedule_alphas(last, ranges, curve, first).tolist()
    alphas = [first, first, *inner[1:-1], last, last]
    inside = [start + (end - start) * i / ranges for i in range(1, ranges)]
    edges = [0.0, start, *inside, end, 1.0]
    steps: list[Step] = []
    for (begin, stop), alpha in zip(pairwise(edges), alphas, strict=True):
        if stop <= begin:
            continue
        if steps and steps[-1][2] == alpha:
            steps[-1] = (steps[-1][0], stop, alpha)
        else:
            steps.append((begin, stop, alpha))
    return steps


@checked
def blend_over_time(
    pairs: list[tuple[Entry, Entry]],
    steps: list[Step],
    mix: Callable[[Tokens, Tokens, float], Tokens],
) -> list[Entry]:
    """Blends pairs of entries with the alpha of each range of the schedule.

    Args:
        pairs: Text and picture, as `entries.pair` gives them. A range that the text's entry has
            is cut, not widened.
        steps: Of `alpha_ramp`.
        mix: Gives tokens of the picture's, the text's and alpha.

    Returns:
        Entries with the text's options, by pair and then by time.
    """
    made = []
    for text, picture in pairs:
        for start, end, alpha in steps:
            part = text.within(start, end)
            if part is not None:
                made.append(replace(part, tokens=mix(picture.tokens, text.tokens, alpha)))
    return made


def _check(first: float, last: float, curve: str, ranges: int, start: float, end: float) -> None:
    if curve not in SCHEDULES:
        raise ValueError(f"There is no curve {told(curve)}. Choose {', '.join(SCHEDULES)}.")
    for value in (first, last):
        if not 0 <= value <= 1:
            raise ValueError(f"Alpha is the picture's share and goes from 0 to 1, this is {value}.")
    if not 2 <= ranges <= MOST_RANGES:
        raise ValueError(f"A ramp has 2 to {MOST_RANGES} ranges of time, {ranges} were asked for.")
    if not 0 <= start < end <= 1:
        raise ValueError(
            f"The ramp goes from {start:g} to {end:g} of the schedule; expected a start below the "
            "end, both in 0 to 1."
        )
