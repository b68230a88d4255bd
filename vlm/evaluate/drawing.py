"""The plots of an evaluation: each metric by setting, and the differences from the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..report.curves import legend_above
from ..report.figure import Panel, draw, in_rows
from ..report.panels import BLUE, GREEN, GREY, INK, RED
from .evaluation import Evaluation
from .intervals import Interval
from .metrics import CLIP_I, CLIP_T, DINO, SSIM

# Ranges of table 2 of the X2I paper (DreamBench).
GOOD = {
    CLIP_I: "Good is further right: 1 is the reference itself; X2I's table has 0.77 to 0.85 with a "
    "trained CLIP. A copy of the reference that ignores the words scores high here, so look at "
    "CLIP-T beside it.",
    CLIP_T: "Good is further right, on a short scale: X2I's table has 0.26 to 0.33. Each size of "
    "CLIP has a scale of its own: compare numbers of one model only.",
    DINO: "Good is further right: 1 is the reference itself; X2I's table has 0.57 to 0.82. It asks "
    "for the same thing where CLIP-I is content with the same kind.",
    SSIM: "1 is the same picture, 0 is no structure in common. Good is high where the result "
    "should keep the reference's layout (edits, edges), and of no meaning where it should not.",
}
GOOD_DIFFERENCE = (
    "Good is an interval wholly right of the dotted line (green): better on the same cases and "
    "seeds. Across the line (grey) nothing can be told from these cases; left of it (orange) it is "
    "worse."
)
MOST_DOTS = 400


def draw_evaluation(found: Evaluation, title: str = "Evaluation") -> Image.Image:
    """The plots as one picture.

    Args:
        found: What was measured.
        title: Heading.

    Returns:
        RGB, 1600 pixels wide.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    names = [setting.name for setting in found.settings]
    means = [_means_panel(found, metric, names) for metric in found.metrics]
    rows = in_rows(means)
    if len(names) > 1:
        rows += in_rows([_difference_panel(found, metric, names) for metric in found.metrics])
    used = dict.fromkeys(f"{metric} by {found.made_with[metric]}" for metric in found.metrics)
    notes = [
        f"{len(found.cases)} cases; {'; '.join(used)}. Bars are confidence intervals of 95 %, "
        "drawn again by case.",
        *found.notes[:3],
    ]
    return draw(title, notes, rows)


def _means_panel(found: Evaluation, metric: str, names: Sequence[str]) -> Panel:
    intervals = {n: i for n in names if (i := found.mean(n, metric))}
    best = max(intervals, key=lambda name: intervals[name].mean)
    here = f"{metric}: {intervals[best].mean:.3f} of {intervals[best].results} results"
    here += f", the highest of {len(intervals)} settings: {best}." if len(intervals) > 1 else "."

    def dots(axes: Any) -> None:
        rng = np.random.default_rng(0)
        for at, name in enumerate(names):
            every = [row[metric] for row in found.values[name].values() if metric in row]
            shown = every[:: max(1, len(every) // MOST_DOTS)]
            axes.scatter(
                shown, at + rng.uniform(-0.22, 0.22, len(shown)), s=14, color=GREY, alpha=0.45,
                linewidth=0, label=None if at else "one result",
            )  # fmt: skip
            if name in intervals:
                _bar(axes, at, intervals[name], BLUE, "mean" if not at else None)
        _named_rows(axes, names)
        axes.set_xlabel(metric)
        legend_above(axes)

    return Panel(metric, here, GOOD[metric], dots, _height(names))


def _difference_panel(found: Evaluation, metric: str, names: Sequence[str]) -> Panel:
    first, others = names[0], names[1:]
    intervals = {n: i for n in others if (i := found.difference(n, metric))}
    better = [name for name, each in intervals.items() if each.is_clear and each.mean > 0]
    worse = [name for name, each in intervals.items() if each.is_clear and each.mean < 0]
    pairs = max((each.results for each in intervals.values()), default=0)
    here = f"{metric} minus that of {first}, over {pairs} pairs of the same case and seed. "
    here += f"Better: {', '.join(better) or 'none'}; worse: {', '.join(worse) or 'none'}."

    def bars(axes: Any) -> None:
        axes.axvline(0, color=INK, linewidth=1.2, linestyle=":")
        for at, name in enumerate(others):
            if name in intervals:
                each = intervals[name]
                colour = GREY if not each.is_clear else GREEN if each.mean > 0 else RED
                _bar(axes, at, each, colour, None)
        edges = [v for i in intervals.values() for v in (i.mean, i.low, i.high) if v is not None]
        reach = 1.15 * max((abs(edge) for edge in edges), default=0) or 1.0
        axes.set_xlim(-reach, reach)
        _named_rows(axes, others)
        axes.set_xlabel(f"difference of {metric}")

    title = f"{metric}: difference from {first[:24]}"
    return Panel(title, here, GOOD_DIFFERENCE, bars, _height(others))


def _bar(axes: Any, at: int, found: Interval, colour: str, label: str | None) -> None:
    """A mean as a point, its interval as a bar where there is one."""
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [at, at], color=colour, linewidth=4, alpha=0.55)
    axes.plot([found.mean], [at], "o", color=colour, markersize=8, label=label)
    axes.annotate(
        f"{found.mean:.3f}", (found.mean, at), xytext=(0, 9), textcoords="offset points",
        ha="center", fontsize=9.5, color=INK,
    )  # fmt: skip


def _named_rows(axes: Any, names: Sequence[str]) -> None:
    """The settings from top to bottom; long names are cut."""
    shown = [name if len(name) <= 14 else f"{name[:13]}…" for name in names]
    axes.set_yticks(range(len(names)), shown, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def _height(names: Sequence[str]) -> float:
    return min(max(1.8, 0.55 * len(names) + 0.6), 8.0)
