"""Measuring results: every metric of every setting, and the paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ..pictures.images import to_pictures
from ..pictures.media_files import read_picture
from .cases import Case
from .intervals import LEVEL, RESAMPLES, Interval, bootstrap
from .metrics import METRICS, SMALLEST, Against, Measure
from .results import Key, Setting

Values = dict[str, float]  # by metric


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        cases: Those with a result.
        settings: In the order given; the first is what the others are compared with.
        values: By setting and key, of every result that was measured.
        made_with: By metric, the model or package.
        notes: Lines about what was left out.
        seed: Of the bootstrap.
    """

    cases: dict[str, Case]
    settings: list[Setting]
    values: dict[str, dict[Key, Values]]
    made_with: dict[str, str]
    notes: list[str] = field(default_factory=list)
    seed: int = 0

    @property
    def metrics(self) -> list[str]:
        """Those with a number, in the order of `METRICS`."""
        found = {m for rows in self.values.values() for row in rows.values() for m in row}
        return [metric for metric in METRICS if metric in found]

    def mean(self, setting: str, metric: str) -> Interval | None:
        """Of a setting; None where it has no number."""
        return self._interval({k: v[metric] for k, v in self.values[setting].items()
                               if metric in v})  # fmt: skip

    def difference(self, setting: str, metric: str) -> Interval | None:
        """A setting minus the first, over cases and seeds that both have; None = there are none."""
        ours, first = self.values[setting], self.values[self.settings[0].name]
        return self._interval(
            {
                key: row[metric] - first[key][metric]
                for key, row in ours.items()
                if metric in row and metric in first.get(key, {})
            }
        )

    def as_data(self) -> dict[str, Any]:
        """Everything, for JSON."""
        names = [setting.name for setting in self.settings]
        return {
            "metrics": {m: {"means": METRICS[m], "made_with": self.made_with[m]}
                        for m in self.metrics},
            "interval": {"level": LEVEL, "resamples": RESAMPLES, "seed": self.seed},
            "settings": {name: {m: _data(self.mean(name, m)) for m in self.metrics}
                         for name in names},
            "differences": [
                {"setting": name, "against": names[0], "metric": m, **found}
                for name in names[1:]
                for m in self.metrics
                if (found := _data(self.difference(name, m)))
            ],
            "results": [
                {"setting": setting.name, "case": case, "seed": seed,
                 "file": setting.files[case, seed].name, **row}
                for setting in self.settings
                for (case, seed), row in self.values[setting.name].items()
            ],
            "notes": self.notes,
        }  # fmt: skip

    def _interval(self, values: dict[Key, float]) -> Interval | None:
        groups: dict[str, list[float]] = {}
        for (case, _), value in values.items():
            groups.setdefault(case, []).append(value)
        return bootstrap(groups, self.seed) if groups else None


def evaluate(
    cases: Sequence[Case],
    settings: Sequence[Setting],
    measures: Sequence[Measure],
    seed: int = 0,
    tell: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Measures results.

    Pictures that cannot be read are left out and named; a metric stands only where a case has what
    it needs: a reference, or a prompt.

    Args:
        cases: As `read_cases` or `list_cases` give them.
        settings: As `find_results` gives them, of different names; one is enough.
        measures: What to measure with.
        seed: Of the bootstrap.
        tell: Called after each case.

    Returns:
        The numbers; all of them finite.

    Raises:
        ValueError: Nothing could be measured, two settings of one name, or a model that gives NaN.
    """
    names = [setting.name for setting in settings]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"Two settings are called {twice[0]}. Name them: NAME=FOLDER.")
    values: dict[str, dict[Key, Values]] = {name: {} for name in names}
    made_with: dict[str, str] = {}
    notes: list[str] = []
    for case in cases:
        found = _read_results(case, settings, notes)
        references = [p for f in case.references if (p := _read(f, "reference", notes))]
        against = Against(case.prompt, references)
        for measure in measures if found else ():
            numbers = measure(against, [picture for _, _, picture in found])
            for metric, each in numbers.items():
                made_with[metric] = measure.made_with
                for (name, key, _), value in zip(found, each, strict=True):
                    _need_finite(value, metric, measure, key)
                    values[name].setdefault(key, {})[metric] = value
        tell()
    if not made_with:
        why = f" ({notes[0]})" if notes else ""
        raise ValueError(
            f"Nothing could be measured{why}. Give references for SSIM, with a model for CLIP-I or "
            "DINO too, or prompts and a model for CLIP-T."
        )
    notes += [line for measure in measures for line in measure.notes]
    return Evaluation(
        {case.name: case for case in cases if any(case.name in {k[0] for k in values[n]}
                                                  for n in names)},
        list(settings), values, made_with, notes, seed,
    )  # fmt: skip


def _read_results(
    case: Case, settings: Sequence[Setting], notes: list[str]
) -> list[tuple[str, Key, Image.Image]]:
    """The results of a case in all settings, as far as they can be read."""
    return [
        (setting.name, key, picture)
        for setting in settings
        for key, file in setting.files.items()
        if key[0] == case.name and (picture := _read(file, setting.name, notes))
    ]


def _read(file: Path, what: str, notes: list[str]) -> Image.Image | None:
    try:
        picture = to_pictures([read_picture(file)])[0]
        if min(picture.size) < SMALLEST:
            size = f"{picture.width} x {picture.height}"
            raise ValueError(f"it is {size} pixels, at least {SMALLEST} a side are measured")
    except (ValueError, OSError) as error:
        notes.append(f"{what}: {file.name} is left out: {' '.join(str(error).split())}")
        return None
    return picture


def _need_finite(value: float, metric: str, measure: Measure, key: Key) -> None:
    if not math.isfinite(value):
        raise ValueError(
            f"{metric} of {'_'.join(filter(None, key))} is {value} by {measure.made_with}. Its "
            "weights are damaged; download them again."
        )


def _data(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else {**vars(found)}
