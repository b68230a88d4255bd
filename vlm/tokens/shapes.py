"""What is drawn on a picture to weigh its tokens: dots, boxes and brush strokes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..quoted import told

MAX_SHAPES = 1000  # of one picture
MAX_POINTS = 2000  # of all its strokes
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
        _need_numbers("dot", x=self.x, y=self.y, radius=self.radius, strength=self.strength)
        _need_place("dot", self.x, self.y)
        _need_radius("dot", self.radius)
        _need_strength("dot", self.strength)


@dataclass(frozen=True)
class Box:
    """A rectangle on a picture.

    Attributes:
        x0, y0: Its upper left corner, as a share of the picture's width and height, 0..1.
        x1, y1: Its lower right corner: right of the other, and below it.
        strength: -1..1. Positive: what its inside weighs. Negative: how much it takes away there.

    Raises:
        ValueError: A value that is not a number of that range, or a box without an inside.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    strength: float = 1.0

    def __post_init__(self) -> None:
        corners = {"x0": self.x0, "y0": self.y0, "x1": self.x1, "y1": self.y1}
        _need_numbers("box", **corners, strength=self.strength)
        for name, value in corners.items():
            if not 0 <= value <= 1:
                raise ValueError(
                    f"A box has {name} {value}, outside the picture. x0, y0, x1 and y1 are shares "
                    "of its width and height, 0 to 1."
                )
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise ValueError(
                f"A box goes from x {self.x0}, y {self.y0} to x {self.x1}, y {self.y1} and has no "
                "inside. x0 is left of x1, y0 above y1."
            )
        _need_strength("box", self.strength)


@dataclass(frozen=True)
class Stroke:
    """A line drawn with a brush.

    Attributes:
        points: Where it goes, as x and y like a dot's, one after the other; at least one.
        radius: How far it reaches from the line, like a dot's.
        strength: Like a dot's, on the whole line.

    Raises:
        ValueError: No points or too many, or a value that is not a number of its range.
    """

    points: Sequence[Sequence[float]]
    radius: float
    strength: float = 1.0

    def __post_init__(self) -> None:
        _need_numbers("stroke", radius=self.radius, strength=self.strength)
        _need_radius("stroke", self.radius)
        _need_strength("stroke", self.strength)
        if not isinstance(self.points, (list, tuple)) or not self.points:
            raise ValueError(
                f"A stroke's points are {told(self.points)}, expected a list of at least one "
                "[x, y]."
            )
        need_points(len(self.points))
        for point in self.points:
            if not isinstance(point, (list, tuple)) or len(point) != 2:
                raise ValueError(f"A point of a stroke is {told(point)}, expected [x, y].")
            _need_numbers("stroke", x=point[0], y=point[1])
            _need_place("stroke", *point)
        object.__setattr__(self, "points", tuple((x, y) for x, y in self.points))


Shape: TypeAlias = Dot | Box | Stroke
KINDS: tuple[type[Shape], ...] = (Dot, Box, Stroke)  # in the order in which they are written


def name_of(kind: type[Shape], count: int = 1) -> str:
    """What several shapes of a kind are called, or one."""
    one = kind.__name__.lower()
    return one if count == 1 else {"box": "boxes"}.get(one, f"{one}s")


def count_words(shapes: Sequence[Shape]) -> str:
    """How many shapes there are, by kind: "2 dots, 1 box"; none are "0 dots"."""
    counts = [(kind, sum(isinstance(each, kind) for each in shapes)) for kind in KINDS]
    found = [f"{count} {name_of(kind, count)}" for kind, count in counts if count]
    return ", ".join(found) or "0 dots"


def need_shapes(count: int, called: str) -> None:
    """Refuses more shapes than a picture takes.

    Args:
        count: Of all of them.
        called: What they are, several.

    Raises:
        ValueError: They are too many.
    """
    if count > MAX_SHAPES:
        raise ValueError(
            f"{count} {called} are more than `dots` takes ({MAX_SHAPES}). Use fewer and larger "
            "ones, or draw a mask."
        )


def need_points(count: int) -> None:
    """Refuses more points than the strokes of a picture may have.

    Raises:
        ValueError: They are too many.
    """
    if count > MAX_POINTS:
        raise ValueError(
            f"{count} points of strokes are more than `dots` takes ({MAX_POINTS}). Draw fewer or "
            "shorter strokes, or a mask."
        )


def _need_numbers(kind: str, **values: Any) -> None:
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not abs(value) < math.inf:
            raise ValueError(f"A {kind}'s {name} is a number, this is {told(value)}. Write one.")


def _need_place(kind: str, x: float, y: float) -> None:
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(
            f"A {kind} lies at x {x}, y {y}, outside the picture. x and y are "
            "shares of its width and height, 0 to 1 (0.5, 0.5 is the middle)."
        )


def _need_radius(kind: str, radius: float) -> None:
    if not 0 < radius <= LARGEST_RADIUS:
        raise ValueError(
            f"A {kind} has the radius {radius}; a radius is over 0 and up to "
            f"{LARGEST_RADIUS} (1 = the shorter side of the token grid). To switch a {kind} off, "
            "set its strength to 0."
        )


def _need_strength(kind: str, strength: float) -> None:
    if not -1 <= strength <= 1:
        raise ValueError(
            f"A {kind} has the strength {strength}; a strength is -1 to 1 (1 = keep, "
            "-1 = take away)."
        )
