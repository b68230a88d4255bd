"""Axes of a sweep: where a value goes, which values, and every combination of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .workflow import Prompt, SweepError, parse_value, set_place, set_values

# Axes with an option of their own: the classes of nodes, and their input.
PLACES = {
    "layers": (("VLMCHiddenLayerSelect", "VLMCLAPPool"), "layers"),
    "alpha": (("VLMCAlphaBlend", "VLMCStyleDelta"), "alpha"),
}
LONGEST_STEM = 180  # characters; file systems take 255 bytes with the ending


@dataclass(frozen=True)
class Axis:
    """One input and its values.

    Attributes:
        place: A key of `PLACES`, or `NODE.INPUT`.
        values: Each once.
    """

    place: str
    values: tuple[Any, ...]

    def put(self, prompt: Prompt, value: Any) -> None:
        """Sets a value where it belongs."""
        if self.place in PLACES:
            set_values(prompt, *PLACES[self.place], value)
        else:
            set_place(prompt, self.place, value)


@dataclass(frozen=True)
class Run:
    """One combination.

    Attributes:
        values: By the name of each axis, the slowest first.
        prompt: The workflow with them.
    """

    values: dict[str, Any]
    prompt: Prompt

    def stem(self, workflow: Path) -> str:
        """Name of a picture: the workflow's, the values, and six letters that stand for all."""
        parts = [f"{name}{value}" for name, value in self.values.items()]
        text = json.dumps(self.prompt, sort_keys=True)
        mark = hashlib.sha256(text.encode()).hexdigest()[:6]
        name = re.sub(r"[^\w.+-]+", "_", "_".join([workflow.stem, *parts]))
        while len(name.encode()) > LONGEST_STEM:
            name = name[:-1]
        return f"{name}_{mark}"

    @property
    def words(self) -> list[str]:
        """`alpha 0.3` for each axis, the slowest first."""
        return [f"{name} {value}" for name, value in self.values.items()]

    @property
    def column(self) -> str:
        """Its heading in a table: the value of the fastest axis."""
        return self.words[-1] if self.values else ""

    @property
    def row(self) -> str:
        """Its heading at the side: the values of all other axes."""
        return ", ".join(self.words[:-1])


def parse_list(text: str) -> list[str]:
    """The values of a list; semicolons separate them if there is one, else commas."""
    values = [value.strip() for value in text.split(";" if ";" in text else ",")]
    return list(dict.fromkeys(value for value in values if value))


def parse_axis(text: str) -> Axis:
    """Reads `NODE.INPUT=VALUES`.

    Raises:
        SweepError: It is not written so, or has no values.
    """
    place, mark, values = text.partition("=")
    if not mark or "." not in place:
        raise SweepError(f"--axis {text}: write CLASS.INPUT=VALUES, like KSampler.cfg=1,2,4.")
    found = dict.fromkeys((type(value), value) for value in map(_plain, parse_list(values)))
    if not found:
        raise SweepError(
            f"--axis {text}: there are no values. Write some, like KSampler.cfg=1,2,4."
        )
    return Axis(place.strip(), tuple(value for _, value in found))


def _plain(text: str) -> Any:
    """A number, true or false where the text is one; else the text."""
    value = parse_value(text)
    return value if isinstance(value, bool | int | float) else text


def alpha_and_layers(alpha: str, layers: str) -> list[Axis]:
    """The axes of the options --layers and --alpha, as far as they are given.

    Raises:
        SweepError: an alpha that is no number.
    """
    try:
        numbers = tuple(dict.fromkeys(map(float, parse_list(alpha))))
    except ValueError:
        raise SweepError(f"--alpha {alpha}: write numbers, such as 0,0.15,0.3.") from None
    axes = [Axis("layers", tuple(parse_list(layers))), Axis("alpha", numbers)]
    return [axis for axis in axes if axis.values]


def all_runs(prompt: Prompt, axes: Sequence[Axis]) -> list[Run]:
    """Every combination of the values, the last axis fastest.

    Raises:
        SweepError: An axis twice, or one that the workflow has no place for.
    """
    names = _names([axis.place for axis in axes])
    runs = []
    for values in itertools.product(*(axis.values for axis in axes)):
        changed = json.loads(json.dumps(prompt))
        for axis, value in zip(axes, values, strict=True):
            axis.put(changed, value)
        runs.append(Run(dict(zip(names, values, strict=True)), changed))
    return runs


def _names(places: list[str]) -> list[str]:
    """What axes are called: the input alone where that is enough to tell them apart."""
    twice = [place for place in places if places.count(place) > 1]
    if twice:
        raise SweepError(f"{twice[0]} is an axis twice. Write all of its values into one.")
    short = [place.rpartition(".")[2] for place in places]
    return [
        one if short.count(one) == 1 else place for one, place in zip(short, places, strict=True)
    ]
