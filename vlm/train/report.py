"""The report of a run: its losses, what it takes of each layer, and its states beside the target's.

Everything is drawn as the other reports are; matplotlib loads when it is drawn.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..connectors.load import load_connector
from ..files.whole_file import write_whole
from ..report.curves import legend_above, plain_numbers, whole_numbers
from ..report.dimensions import make_series
from ..report.figure import Panel, draw, in_rows
from ..report.layer_panels import dimension_panels, weights_panel
from ..report.measures import short
from ..report.panels import BLUE, GREEN, GREY, ORANGE, RED
from ..tokens.stats import measure_stats
from ..tokens.tokens import Tokens
from .features_loss import PAD
from .item import Item
from .recipe import LOSSES, TrainRecipe
from .student import Student

REPORT, TAKES = "report.png", "What it takes of each layer"
MOST_CAPTIONS = 16  # over which the connector's states are measured
COLOURS = (BLUE, ORANGE, GREEN, RED, GREY)
_SMOOTH = 50  # the thick line is the mean over this part of a run
_NO_TERM = ("step", "loss", "norm", "lr", "constant")
Log = Sequence[dict[str, float]]


def need_matplotlib() -> None:
    """Refuses a run whose report could not be drawn, before hours of it.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; says what to do.
    """
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            "The report of a run is drawn by matplotlib, which is not installed here. Install it "
            "(pip install matplotlib), or set report to false.",
            name="matplotlib",
        )


def write_report(
    recipe: TrainRecipe, log: Log, file: Path, student: Student, items: Sequence[Item]
) -> None:
    """Draws the report of a run beside its connector.

    Args:
        recipe: Of the run.
        log: Its rows, all of them, also of parts before a resume.
        file: The connector that it made.
        student: The connector as it was learnt.
        items: Captions with what the frozen models make of them.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: The picture cannot be written.
    """
    name = Path(recipe.vlm).name
    title = f"{Path(recipe.out).name}: {recipe.connector} from {name} to {recipe.target}"
    panels = [loss_panel(log), *held_out_panels(log), pace_panel(log, recipe.clip)]
    panels += state_panels(student, items)
    weights = weights_panel(load_connector(file), None)
    panels += [replace(weights, title=TAKES)] if weights is not None else []
    notes = [
        f"{int(log[-1]['step'])} updates of {recipe.batch * recipe.accumulate} captions; loss "
        f"{_learnt(recipe)}; lr {recipe.lr:g}, {recipe.schedule} after {recipe.warmup} updates of "
        f"warm-up; seed {recipe.seed}."
    ]
    out = io.BytesIO()
    draw(title, notes, in_rows(panels)).save(out, format="PNG")
    write_whole(file.parent / REPORT, out.getvalue())


def _learnt(recipe: TrainRecipe) -> str:
    """`features`, or `0.5 features + 0.001 attention`."""
    parts = {loss: getattr(recipe, loss) for loss in LOSSES if getattr(recipe, loss)}
    if len(parts) == 1:
        return next(iter(parts))
    return " + ".join(f"{count:g} {loss}" for loss, count in parts.items())


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and those just before it, a fiftieth of a run in all."""
    span = max(1, len(values) // _SMOOTH)
    sums = torch.tensor([0.0, *values], dtype=torch.float64).cumsum(0)
    stops = torch.arange(1, len(values) + 1)
    starts = (stops - span).clamp_min(0)
    return ((sums[stops] - sums[starts]) / (stops - starts)).tolist()


def loss_panel(log: Log) -> Panel:
    """The loss of every update and its terms."""
    found = dict.fromkeys(key for row in log for key in row)  # pads are not in every batch
    terms = [key for key in found if key not in _NO_TERM and not key.startswith("held_out")]
    names = ["loss", *(terms if len(terms) > 1 else [])]
    lines = {name: [(row["step"], row[name]) for row in log if name in row] for name in names}

    def curves(axes: Any) -> None:
        for (name, line), colour in zip(lines.items(), itertools.cycle(COLOURS), strict=False):
            steps, values = zip(*line, strict=True)
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
            axes.plot(steps, smoothed(values), color=colour, linewidth=2, label=name)
        _finish(axes, [value for line in lines.values() for _, value in line], "loss")

    even = smoothed([row["loss"] for row in log])
    return Panel(
        "Loss on what it learns from",
        f"{short(even[0])} at the beginning, {short(even[-1])} at the end.",
        "Good: it falls fast and then flattens. Flat from the beginning: nothing is learnt, try a "
        "higher lr. Up and down by half: lower lr, or more captions an update (batch, "
        "accumulate). Still falling at the end: more steps would help.",
        curves,
    )


def held_out_panels(log: Log) -> list[Panel]:
    """The loss of captions never trained on, beside the best constant; none without them."""
    rows = [row for row in log if "held_out" in row]
    if not rows:
        return []
    steps, found = [row["step"] for row in rows], [row["held_out"] for row in rows]
    constant = rows[-1].get("constant")

    def curve(axes: Any) -> None:
        axes.plot(steps, found, "o-", color=BLUE, linewidth=2, markersize=5, label="held out")
        if constant is not None:
            axes.axhline(constant, color=RED, linestyle="--", label="the best constant")
        _finish(axes, [*found, *([] if constant is None else [constant])], "loss")

    least = min(range(len(found)), key=found.__getitem__)
    here = f"{short(found[-1])} at the end"
    if constant is not None:
        here += f", {found[-1] / constant:.2f} of what the best constant costs"
    here += f"; least after {int(steps[least])} updates."
    good = (
        "Good: far below the best constant, which knows these captions and does not read the "
        "words. At its height nothing was learnt. Rising while the loss beside it falls: it "
        "learns its captions by heart; take more of them, or fewer steps."
    )
    if constant is None:
        good = (
            "Good: it falls with the loss beside it. Rising while that falls: it learns its "
            "captions by heart; take more of them, or fewer steps."
        )
    return [Panel("Loss on captions held out", here, good, curve)]


def pace_panel(log: Log, clip: float) -> Panel:
    """Gradient norm and learning rate of every update."""
    steps, norms = [row["step"] for row in log], [row["norm"] for row in log]
    rates = [row["lr"] for row in log]
    cut = sum(norm > clip for norm in norms) if clip else 0

    def curves(axes: Any) -> None:
        axes.plot(steps, norms, color=BLUE, linewidth=1.2, label="norm of the gradient")
        if clip:
            axes.axhline(clip, color=GREY, linestyle=":", label=f"clip {clip:g}")
        beside = axes.twinx()
        beside.plot(steps, rates, color=ORANGE, linewidth=2)
        beside.set_ylabel("learning rate", color=ORANGE)
        beside.set_ylim(bottom=0)
        beside.grid(visible=False)
        _finish(axes, norms, "norm")

    middle = sorted(norms)[len(norms) // 2]
    return Panel(
        "Gradient and learning rate",
        f"Norm {short(middle)} in the middle, {short(max(norms))} at most; cut in {cut} of "
        f"{len(norms)} updates.",
        "Good: the norm falls or stays, with few peaks. Cut in most updates: lower lr, or raise "
        "clip. The rate rises over the warm-up and then follows the schedule.",
        curves,
        right=1.0,
    )


@torch.no_grad()
def state_panels(student: Student, items: Sequence[Item]) -> list[Panel]:
    """Mean and std per dimension of what the connector gives, against the target's own encoder."""
    contexts = (context for context, _ in student([item.reading for item in items]))
    given = []
    for item, context in zip(items, contexts, strict=True):
        real = item.reading.real[0]
        given.append(context.float().cpu()[real[len(real) - len(context) :].cpu()])
    wanted = [item.text.states[item.text.kinds != PAD].float().cpu() for item in items]
    series = make_series("the connector's tokens", torch.cat(given), BLUE)
    stats = measure_stats([Tokens(states[None]) for states in wanted])
    return [] if series is None else dimension_panels([series], stats)


def _finish(axes: Any, values: Sequence[float], label: str) -> None:
    """A logarithmic height where all is above 0, names, and the legend."""
    if all(value > 0 for value in values):
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
    whole_numbers(axes.xaxis)
    axes.set_xlabel("update")
    axes.set_ylabel(label)
    legend_above(axes)
