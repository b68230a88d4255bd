"""Alpha of each token: along a curve, or from a list."""

import math
from collections.abc import Callable

import torch

from ..arguments import need_length

_CURVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "constant": torch.ones_like,
    "linear": lambda t: t,
    "ease_in": torch.square,
    "ease_out": lambda t: 1 - (1 - t).square(),
}
SCHEDULES = tuple(_CURVES)
MOST_ALPHAS = 16384


def schedule_alphas(alpha: float, n: int, schedule: str, start: float = 0.0) -> torch.Tensor:
    """Alpha per token: ``[n]`` float32, from ``start`` to ``alpha``.

    start + (alpha - start)·c, and with t = i / (n - 1), i from 0, c is 1 for constant, t for
    linear, t² for ease_in, 1 - (1 - t)² for ease_out. A single token has t = 0.
    """
    t = torch.arange(n, dtype=torch.float32) / max(n - 1, 1)
    return start + (alpha - start) * _CURVES[schedule](t)


def parse_alphas(text: str) -> list[float]:
    """Reads alphas from text, one for each token: ``"0.1, 0.3, 0.3"``.

    Args:
        text: Numbers with commas between; empty = none.

    Raises:
        ValueError: No number, one outside 0..1, or more than ``MOST_ALPHAS``.
    """
    need_length(text, "token_alphas", MOST_ALPHAS * 32)
    parts = [part.strip() for part in text.split(",", MOST_ALPHAS)] if text.strip() else []
    if len(parts) > MOST_ALPHAS:
        raise ValueError(f"There are more than {MOST_ALPHAS} alphas. Give one for each token.")
    found = []
    for number, part in enumerate(parts, start=1):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise ValueError(
                f"Alpha {number} of the list is {part[:40]!r}, expected a number from 0 to 1. "
                "Write one for each token with commas between, such as 0.1, 0.3, 0.3."
            )
        found.append(value)
    return found
