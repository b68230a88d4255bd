"""Values of a sweep: axes as people write them, what each may be, and all combinations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

from ..arguments import checked, need_length, whole
from ..quoted import told
from ..tokens.blend import METHODS
from ..tokens.filter import KEEP_PRESETS
from ..tokens.layer_spec import parse_layers
from ..tokens.normalize import MODES
from ..tokens.outliers import OUTLIER_MODES

OFF = "off"
MOST_COMBINATIONS = 100
MOST_LETTERS = 20_000  # of an axis
_ANY_DEPTH = 1000  # deeper than any model: only whether layers can be read is checked


@dataclass(frozen=True)
class Steps:
    """Settings of the steps from hidden states to a blend, in their order; each can be an axis.

    Attributes:
        layer: As `select_layers` reads it; auto = the target's.
        pool: `pool_tokens` to at most so many picture tokens; 0 = not pooled.
        keep: Of `filter_tokens`.
        normalisation: Mode of `normalize`.
        strength: Of `normalize`, 0..1; at 0 outliers stay as well.
        outliers: Mode of `mask_outliers`, or off.
        method: Of `blend`.
        alpha: Of `blend`, 0..1.
    """

    layer: str = "auto"
    pool: int = 0
    keep: str = "text"
    normalisation: str = "auto"
    strength: float = 1.0
    outliers: str = OFF
    method: str = "auto"
    alpha: float = 0.3


AXES = tuple(field.name for field in fields(Steps))


@dataclass(frozen=True)
class Axis:
    """One setting with its values.

    Attributes:
        name: One of `AXES`.
        values: Each once, at least one.
    """

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Combination:
    """One value of every axis.

    Attributes:
        steps: All settings.
        names: What it is of each axis, such as ("alpha 0.3", "layer -8").
    """

    steps: Steps
    names: tuple[str, ...]


@checked
def parse_axis(name: str, text: str) -> Axis:
    """Reads the values of an axis.

    Args:
        name: One of `AXES`.
        text: Values with commas between, or with semicolons where one of them has a comma:
            "0, 0.15, 0.3" or "-8; -2:0.7, -8:0.3". A value that comes twice counts once.

    Raises:
        ValueError: An unknown axis, no value, or one that the setting does not take.
    """
    if name not in AXES:
        raise ValueError(f"{told(name)} is no axis of a sweep. Choose one of: {', '.join(AXES)}.")
    need_length(text, f"the values of {name}", MOST_LETTERS)
    words = [word.strip() for word in text.split(";" if ";" in text else ",")]
    values = dict.fromkeys(_READERS[name](name, word) for word in words if word)
    if not values:
        raise ValueError(
            f"The axis {name} of a sweep has no values. Write some, such as {_EXAMPLES[name]}."
        )
    return Axis(name, tuple(values))


@checked
def combine(steps: Steps, axes: Sequence[Axis]) -> list[Combination]:
    """Every combination of the axes' values, the first axis fastest: row by row of a sheet.

    Args:
        steps: What the axes leave as it is.
        axes: One or two.

    Raises:
        ValueError: No axis or more than two, one axis twice, or over 100 combinations.
    """
    names = [axis.name for axis in axes]
    if len(names) not in (1, 2):
        raise ValueError(f"A sweep has one axis or two, these are {len(names)}. Leave some out.")
    if len(set(names)) < len(names):
        raise ValueError(
            f"Both axes of the sweep are {names[0]}. Choose another one for the second, or none."
        )
    count = prod(len(axis.values) for axis in axes)
    if count > MOST_COMBINATIONS:
        sizes = " x ".join(f"{len(axis.values)} of {axis.name}" for axis in axes)
        raise ValueError(
            f"This sweep has {count} combinations ({sizes}), and each becomes a picture; at most "
            f"{MOST_COMBINATIONS} are made. Leave values out."
        )
    made = []
    for values in itertools.product(*(axis.values for axis in reversed(axes))):
        chosen = dict(zip(names, reversed(values), strict=True))
        words = tuple(f"{name} {_word(value)}" for name, value in chosen.items())
        made.append(Combination(replace(steps, **chosen), words))
    return made


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _share(name: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(_refused(name, word, "numbers from 0 to 1"))
    return value


def _size(name: str, word: str) -> int:
    tokens = whole(word)
    if tokens is None:
        raise ValueError(_refused(name, word, "whole numbers of tokens, 0 for not pooled"))
    return tokens


def _layer(name: str, word: str) -> str:
    if word != "auto":
        try:
            parse_layers(word, _ANY_DEPTH)
        except ValueError as error:
            raise ValueError(f"{told(word)} is no value of the axis {name}: {error}") from None
    return word


def _one_of(choices: Sequence[str]) -> Callable[[str, str], str]:
    def read(name: str, word: str) -> str:
        if word not in choices:
            raise ValueError(_refused(name, word, f"some of {', '.join(choices)}"))
        return word

    return read


def _refused(name: str, word: str, expected: str) -> str:
    return (
        f"{told(word)} is no value of the axis {name}: it takes {expected}. Write it such as "
        f"{_EXAMPLES[name]}."
    )


_READERS: dict[str, Callable[[str, str], Any]] = {
    "layer": _layer,
    "pool": _size,
    "keep": _one_of(tuple(KEEP_PRESETS)),
    "normalisation": _one_of(MODES),
    "strength": _share,
    "outliers": _one_of((OFF, *OUTLIER_MODES)),
    "method": _one_of(METHODS),
    "alpha": _share,
}
_EXAMPLES = {
    "layer": "-2, -6, -8",
    "pool": "256, 64, 9",
    "keep": "text, all, image",
    "normalisation": "global, per_dim, robust",
    "strength": "0, 0.5, 1",
    "outliers": "off, clamp",
    "method": "pool, interpolate",
    "alpha": "0, 0.15, 0.3, 0.5",
}
