"""Hand-over in time: one conditioning for the first part of the schedule, another for the rest."""

from __future__ import annotations

from ..arguments import checked
from .entries import Entry


@checked
def hand_over(first: list[Entry], second: list[Entry], percent: float) -> list[Entry]:
    """Gives the schedule's start to one conditioning and the rest to another (UniFusion 5.2).

    Ranges that entries already have are cut, not widened. Both share the edge: a step that falls
    exactly on it reads both, where a gap, however small, could leave a step with neither.

    Args:
        first: Entries for the first part, the picture's tokens.
        second: Entries for the rest, the text.
        percent: Where the second takes over, 0..1 of the schedule; 0 = only `second`, 1 = only
            `first`.

    Returns:
        Entries of both, in time order.

    Raises:
        ValueError: `percent` outside 0..1, or nothing left of both.
    """
    if not 0.0 <= percent <= 1.0:
        raise ValueError(f"percent is {percent}, expected 0 to 1 (share of the schedule).")
    if percent == 0.0:
        return list(second)
    if percent == 1.0:
        return list(first)
    early = [entry.within(0.0, percent) for entry in first]
    late = [entry.within(percent, 1.0) for entry in second]
    kept = [entry for entry in early + late if entry is not None]
    if not kept:
        raise ValueError(
            f"Nothing is left: no entry of the first lies before {percent:.0%} of the schedule, "
            "none of the second after it. Remove the time ranges before `hand_over`."
        )
    return kept
