"""GridDot: dots on a picture say which of its tokens count, and how much.

Source: Qwen2VL-Flux §2.3 and its released code. Where they differ the code counts: the paper's
equation 3 divides by the side of the patch grid, which is twice this radius.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from ..arguments import checked, need_length, reason, told
from ..token_grid import need_grid
from .token_weights import mask_values

COMBINE = ("max", "sum", "screen")
MAX_DOTS = 1000
VERSION = 1
LARGEST_RADIUS = 100


@dataclass(frozen=True)
class Dot:
    """A point of interest on a picture.

    Attributes:
        x, y: Where it is, as a share of the picture's width and height, 0..1; 0, 0 is top left.
        radius: How far it reaches, as a share of the token grid's shorter side; over 0, up to 100.
        strength: -1..1. Positive: what its centre weighs. Negative: how much it takes away there.

    Raises:
        ValueError: A value that is not a number of that range.
    """

    x: float
    y: float
    radius: float
    strength: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not abs(value) < math.inf:
                raise ValueError(
                    f"A dot's {field.name} is a number, this is {told(value)}. Write one."
                )
        if not (0 <= self.x <= 1 and 0 <= self.y <= 1):
            raise ValueError(
                f"A dot lies at x {self.x}, y {self.y}, outside the picture. x and y are "
                "shares of its width and height, 0 to 1 (0.5, 0.5 is the middle)."
            )
        if not 0 < self.radius <= LARGEST_RADIUS:
            raise ValueError(
                f"A dot has the radius {self.radius}; a radius is over 0 and up to "
                f"{LARGEST_RADIUS} (1 = the shorter side of the token grid). To switch a dot off, "
                "set its strength to 0."
            )
        if not -1 <= self.strength <= 1:
            raise ValueError(
                f"A dot has the strength {self.strength}; a strength is -1 to 1 (1 = keep, "
                "-1 = take away)."
            )


# --- the JSON text of the widget -----------------------------------------------------------------


def parse_dots(text: str) -> list[Dot]:
    """Reads dots from JSON.

    Args:
        text: ``{"version": 1, "dots": [{"x": 0.5, "y": 0.5, "radius": 0.3, "strength": 1}]}`` or
            the bare list. ``strength`` may be left out. Empty: no dots.

    Returns:
        The dots, in their order; at most ``MAX_DOTS``.

    Raises:
        ValueError: Not that; the message says where.
    """
    if not isinstance(text, str):
        raise ValueError(f"`dots` is text (JSON), this is {type(text).__name__}.")
    need_length(text, "dots", MAX_DOTS * 2000)
    if not text.strip():
        return []
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"`dots` cannot be read as JSON ({reason(error)}). Write "
            '{"version": 1, "dots": [{"x": 0.5, "y": 0.5, "radius": 0.3, "strength": 1}]}, or '
            "leave it empty."
        ) from error
    if isinstance(data, dict):
        if data.get("version", VERSION) != VERSION:
            raise ValueError(
                f"`dots` has the version {told(data['version'])}, this pack reads "
                f"version {VERSION}. Update the pack, or place the dots again."
            )
        data = data.get("dots")
    if not isinstance(data, list):
        raise ValueError(
            "`dots` is JSON, but no list of dots. Write "
            '[{"x": 0.5, "y": 0.5, "radius": 0.3, "strength": 1}].'
        )
    _check_count(len(data))
    return [_read_dot(number, entry) for number, entry in enumerate(data, start=1)]


def write_dots(dots: Iterable[Dot]) -> str:
    """The dots as the JSON text that ``parse_dots`` reads."""
    return json.dumps({"version": VERSION, "dots": [asdict(dot) for dot in dots]})


def _read_dot(number: int, entry: Any) -> Dot:
    names = [field.name for field in fields(Dot)]
    if not isinstance(entry, dict):
        raise ValueError(
            f"Dot {number} of `dots` is {told(entry)}, expected x, y, radius and strength."
        )
    missing = [name for name in names[:3] if name not in entry]
    strange = [name for name in entry if name not in names]
    if missing or strange:
        what = f"has no {missing[0]}" if missing else f"has {told(strange[0])}, which no dot has"
        raise ValueError(f"Dot {number} of `dots` {what}. A dot is x, y, radius and strength.")
    try:
        return Dot(**entry)
    except ValueError as error:
        raise ValueError(f"Dot {number} of `dots`: {error}") from error


def _check_count(count: int) -> None:
    if count > MAX_DOTS:
        raise ValueError(
            f"{count} dots are more than `dots` takes ({MAX_DOTS}). Use fewer and larger ones, or "
            "draw a mask."
        )


# --- weights of a grid ---------------------------------------------------------------------------


@checked
def radial_mask(
    rows: int,
    cols: int,
    dots: Sequence[Dot],
    combine: str = "max",
    floor: float = 0.0,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Weights of a picture's tokens.

    A dot's reach is f = clip(1 - distance / (radius · min(rows, cols)), 0, 1). The distance runs
    from (x · cols, y · rows) to the token's integer (column, row), so the token at 0.5, 0.5 of a
    4 x 4 grid is number 2, 2. Positive dots combine as max(s · f), Σ s · f or 1 - Π(1 - s · f);
    the weight is floor + (1 - floor) · that; each negative dot then multiplies by 1 - |s| · f; the
    result is cut to 0..1.

    Args:
        rows, cols: The image's token grid, after the VLM's merge.
        dots: In any order; at least one, unless there is a mask.
        combine: max | sum | screen.
        floor: Weight of what no dot reaches, 0..1; 1 = nothing changes but by negative dots.
        mask: ``[rows, cols]`` or ``[F, rows, cols]``, 0..1: multiplies what the positive dots give;
            where there are none it takes their place.

    Returns:
        float32 on the CPU, in the shape of the mask, otherwise ``[rows, cols]``.

    Raises:
        ValueError: An empty grid, no dot, an unknown combine, a floor outside 0..1, a mask of
            another size or kind, too many dots, or weights that are all zero.
    """
    _check_settings(rows, cols, dots, combine, floor, mask)
    positive = [dot for dot in dots if dot.strength >= 0]
    values = None if mask is None else mask_values(mask)
    weights = torch.zeros(rows, cols, dtype=torch.float64)
    for dot in positive:
        weights = _joined(weights, dot.strength * _reach(rows, cols, dot), combine)
    if values is not None:
        weights = values * (weights if positive else 1.0)
    weights = floor + (1 - floor) * weights
    for dot in dots:
        if dot.strength < 0:
            weights = weights * (1 + dot.strength * _reach(rows, cols, dot))
    weights = weights.clamp(0, 1).float()
    if not weights.any():
        raise ValueError(_all_zero(rows, cols, positive, mask))
    return weights


def _reach(rows: int, cols: int, dot: Dot) -> torch.Tensor:
    """f of one dot, [rows, cols] in float64."""
    down = torch.arange(rows, dtype=torch.float64)[:, None] - dot.y * rows
    right = torch.arange(cols, dtype=torch.float64)[None, :] - dot.x * cols
    return (1 - torch.hypot(down, right) / (dot.radius * min(rows, cols))).clamp(0, 1)


def _joined(so_far: torch.Tensor, one: torch.Tensor, combine: str) -> torch.Tensor:
    if combine == "max":
        return torch.maximum(so_far, one)
    both = so_far + one
    return both if combine == "sum" else both - so_far * one


def _check_settings(
    rows: int,
    cols: int,
    dots: Sequence[Dot],
    combine: str,
    floor: float,
    mask: torch.Tensor | None,
) -> None:
    need_grid(rows, cols)
    if combine not in COMBINE:
        raise ValueError(f"There is no `combine` {told(combine)}. Choose {', '.join(COMBINE)}.")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor is the weight of what no dot reaches, 0 to 1; this is {floor}.")
    if mask is not None and tuple(mask.shape[-2:]) != (rows, cols):
        raise ValueError(
            f"This mask is {list(mask.shape)}, the token grid {rows} x {cols}. Bring it to the "
            "grid with resample_mask."
        )
    if not len(dots) and mask is None:
        raise ValueError("There is no dot and no mask. Give one in `dots`, or a `mask`.")
    _check_count(len(dots))


def _all_zero(rows: int, cols: int, positive: list[Dot], mask: torch.Tensor | None) -> str:
    text = f"The mask leaves nothing: all weights of the {rows} x {cols} grid are 0. "
    if mask is not None and not mask.any():
        return text + "The MASK is black; connect one with white, or raise floor."
    if not positive:
        return text + "All dots are negative; set floor to 1 for dots that only take away."
    largest = max(dot.radius for dot in positive)
    return text + (
        f"The largest radius, {largest:g}, reaches {largest * min(rows, cols):.2g} tokens; use a "
        "larger radius or strength, or raise floor."
    )
