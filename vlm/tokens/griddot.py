"""GridDot: shapes on a picture say which of its tokens count, and how much.

Source: Qwen2VL-Flux §2.3 and its released code. Where they differ the code counts: the paper's
equation 3 divides by the side of the patch grid, which is twice this radius. Boxes and strokes are
ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..arguments import checked
from ..quoted import told
from ..token_grid import need_grid
from .shapes import Box, Dot, Shape, Stroke, need_points, need_shapes
from .token_weights import mask_values

COMBINE = ("max", "sum", "screen")


@checked
def radial_mask(
    rows: int,
    cols: int,
    dots: Sequence[Dot | Box | Stroke],
    combine: str = "max",
    floor: float = 0.0,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Weights of a picture's tokens.

    A dot's reach is f = clip(1 - distance / (radius · min(rows, cols)), 0, 1). The distance runs
    from (x · cols, y · rows) to the token's integer (column, row), so the token at 0.5, 0.5 of a
    4 x 4 grid is number 2, 2. A stroke's distance is that to the nearest point of its line. A box's
    f is the share of the token's cell that lies in it: 1 inside, 0 outside. Positive shapes combine
    as max(s · f), Σ s · f or 1 - Π(1 - s · f); the weight is floor + (1 - floor) · that; each
    negative one then multiplies by 1 - |s| · f; the result is cut to 0..1.

    Args:
        rows, cols: The image's token grid, after the VLM's merge.
        dots: Dots, boxes and strokes in any order; at least one, unless there is a mask.
        combine: max | sum | screen.
        floor: Weight of what no shape reaches, 0..1; 1 = nothing changes but by negative ones.
        mask: ``[rows, cols]`` or ``[F, rows, cols]``, 0..1: multiplies what the positive shapes
            give; where there are none it takes their place.

    Returns:
        float32 on the CPU, in the shape of the mask, otherwise ``[rows, cols]``.

    Raises:
        ValueError: An empty grid, no dot, an unknown combine, a floor outside 0..1, a mask of
            another size or kind, too many shapes, or weights that are all zero.
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


def _reach(rows: int, cols: int, shape: Shape) -> torch.Tensor:
    """f of one shape, [rows, cols] in float64."""
    if isinstance(shape, Box):
        down = _share(rows, shape.y0, shape.y1)[:, None]
        return down * _share(cols, shape.x0, shape.x1)[None, :]
    points = shape.points if isinstance(shape, Stroke) else [(shape.x, shape.y)]
    distance = _distance(rows, cols, points)
    return (1 - distance / (shape.radius * min(rows, cols))).clamp(0, 1)


def _share(count: int, low: float, high: float) -> torch.Tensor:
    """How much of each of `count` cells side by side lies between two shares of their length."""
    start = torch.arange(count, dtype=torch.float64)
    end = start + 1
    return (end.clamp(max=high * count) - start.clamp(min=low * count)).clamp(0, 1)


def _distance(rows: int, cols: int, points: Sequence[Sequence[float]]) -> torch.Tensor:
    """From each token to the nearest point of a line, [rows, cols] in float64."""
    down = torch.arange(rows, dtype=torch.float64)[:, None]
    right = torch.arange(cols, dtype=torch.float64)[None, :]
    placed = [(x * cols, y * rows) for x, y in points]
    nearest = torch.hypot(down - placed[0][1], right - placed[0][0])
    for (x0, y0), (x1, y1) in zip(placed, placed[1:], strict=False):
        across, downward = x1 - x0, y1 - y0
        square = across**2 + downward**2
        if square == 0:
            continue
        along = (((right - x0) * across + (down - y0) * downward) / square).clamp(0, 1)
        away = torch.hypot(down - y0 - along * downward, right - x0 - along * across)
        nearest = torch.minimum(nearest, away)
    return nearest


def _joined(so_far: torch.Tensor, one: torch.Tensor, combine: str) -> torch.Tensor:
    if combine == "max":
        return torch.maximum(so_far, one)
    both = so_far + one
    return both if combine == "sum" else both - so_far * one


def _check_settings(
    rows: int,
    cols: int,
    dots: Sequence[Shape],
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
    need_shapes(len(dots), "dots" if all(isinstance(each, Dot) for each in dots) else "shapes")
    need_points(sum(len(each.points) for each in dots if isinstance(each, Stroke)))


def _all_zero(rows: int, cols: int, positive: list[Shape], mask: torch.Tensor | None) -> str:
    text = f"The mask leaves nothing: all weights of the {rows} x {cols} grid are 0. "
    if mask is not None and not mask.any():
        return text + "The MASK is black; connect one with white, or raise floor."
    if not positive:
        return text + "All dots are negative; set floor to 1 for dots that only take away."
    largest = max((each.radius for each in positive if not isinstance(each, Box)), default=None)
    if largest is None:
        return text + "The boxes have the strength 0; use a larger strength, or raise floor."
    return text + (
        f"The largest radius, {largest:g}, reaches {largest * min(rows, cols):.2g} tokens; use a "
        "larger radius or strength, or raise floor."
    )
