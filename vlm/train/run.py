"""A training run: from a recipe to a connector's file, safe at every step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..connectors.chain import Chain
from ..connectors.lap_blocks import LAP, Origin
from ..connectors.load import load_connector
from ..files.json_file import read_json
from ..files.whole_file import write_whole
from ..quoted import told
from ..targets import TARGETS
from .captions import Caption
from .checkpoints import Checkpoints, Progress
from .data import Batch, Data, batches, read_data
from .features import Features
from .features_loss import WORD, Spread, kinds_of
from .forecast import Forecast, forecast
from .held_out import HeldOut
from .item import Item
from .losses import make_objective
from .models import find_places, load_models, make_accelerator, make_optimizer
from .new_connector import Shape, check_start, make_connector
from .recipe import SCHEDULES, TrainRecipe
from .report import MOST_CAPTIONS, need_matplotlib, write_report
from .result import write_connector
from .student import Reading, Student
from .tracking import Tracking

RESULT, LOG, RUN = "connector.safetensors", "log.jsonl", "run.json"
HELD_OUT = "held out"  # in place of an epoch: what is drawn for these captions never changes
# What may change between the parts of a run: none of it decides a weight.
FREE = (
    "every", "keep", "cache", "cache_mb", "licence", "device", "teacher_device", "out", "report",
    "tracker",
)  # fmt: skip
Row = dict[str, float]


@dataclass(frozen=True)
class Trained:
    """What a run made.

    Attributes:
        file: The connector.
        log: One row for each update, and more for each held-out loss.
        resumed_at: Updates that an earlier part of the run had done.
    """

    file: Path
    log: list[Row]
    resumed_at: int


def train(
    recipe: TrainRecipe,
    tell: Callable[[Row], None] = lambda row: None,
    foretell: Callable[[Forecast], None] | None = None,
) -> Trained:
    """Trains a connector, going on from the newest checkpoint in the run's folder.

    Everything is decided by the recipe: a run that was killed ends with the same weights as one
    that was not, bit for bit on a CPU.

    Args:
        recipe: What to do.
        tell: Called with every row of the log.
        foretell: Called before the first step with what one will take; None = that is not
            worked out.

    Returns:
        The file and the log.

    Raises:
        ValueError: A recipe that does not fit its models or captions; NaN or Inf, with the step
            and the batch; a folder that holds another recipe's run.
        FileNotFoundError: A file or folder is missing.
        OSError: A file cannot be written.
        ModuleNotFoundError: The extra `train` is not installed, or what draws or tracks a run.
    """
    recipe.need_places()
    if recipe.report:
        need_matplotlib()
    accelerator = make_accelerator(recipe)
    data = read_data(recipe, accelerator.num_processes)
    out = Path(recipe.out)
    made_from = {"data": data.digest, **asdict(recipe)}
    _check_folder(out, made_from)
    run = Run(recipe, data, accelerator)
    if accelerator.is_main_process:  # not before: a recipe that cannot begin leaves no run behind
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / RUN, json.dumps(made_from, ensure_ascii=False, indent=2).encode())
    resumed_at = run.resume()
    if foretell is not None and accelerator.is_main_process:
        foretell(run.forecast())
    run.go(tell)
    if accelerator.is_main_process:
        run.write_result(out / RESULT)
        if recipe.report:
            run.write_report(out / RESULT)
    accelerator.wait_for_everyone()
    return Trained(out / RESULT, run.progress.log, resumed_at)


@dataclass(frozen=True)
class Ready:
    """A batch and what the frozen models make of it.

    Attributes:
        epoch, number: Which batch it is; see `batches`.
        items: Its captions, each with what the connector reads and what it learns from.
    """

    epoch: int
    number: int
    items: list[Item]


class Run:
    """The parts of a run and how far it has come.

    Attributes:
        progress: Updates done, and the log.
    """

    def __init__(self, recipe: TrainRecipe, data: Data, accelerator: Any):
        """Loads the models, measures what they give, and draws the connector.

        Raises:
            ValueError, FileNotFoundError: As `train`.
        """
        from accelerate.utils import set_seed
        from transformers import get_scheduler

        self._recipe, self._data, self._accelerator = recipe, data, accelerator
        places = find_places(recipe, accelerator.device)
        self._apart = places[0] != places[1]
        self._reader, self._teacher = load_models(recipe, *places)
        measured = [self._item(caption, HELD_OUT) for caption in data.first]
        features = Features(recipe, [item.text for item in measured])
        self._objective = make_objective(recipe, self._teacher, features, *places)
        set_seed(recipe.seed)
        student = self._make_student(measured, features)
        optimizer = make_optimizer(recipe, student)
        self._schedule = get_scheduler(
            SCHEDULES[recipe.schedule], optimizer, min(recipe.warmup, recipe.steps), recipe.steps
        )
        self.progress = Progress()
        self._student, self._optimizer, self._loader = accelerator.prepare(
            student, optimizer, data.loader
        )
        accelerator.register_for_checkpointing(self._schedule, self.progress)
        folder = Path(recipe.out) / "checkpoints"
        self._checkpoints = Checkpoints(folder, recipe.keep, accelerator)
        self._held_out = HeldOut(
            data.held_out, self._objective, partial(self._prepare, draw=HELD_OUT)
        )

    def resume(self) -> int:
        """Goes to the newest checkpoint, if there is one; the updates done."""
        newest = self._checkpoints.newest
        if newest is not None:
            self._accelerator.load_state(str(newest))
        return self.progress.updates

    def forecast(self) -> Forecast:
        """What a step will take."""
        recipe, data = self._recipe, self._data
        items = [self._item(caption, HELD_OUT) for caption in data.first[: recipe.batch]]
        backbone = self._reader.vlm.backbone
        sees = (backbone.visual,) if recipe.needs_pictures else ()
        return forecast(
            self._accelerator.unwrap_model(self._student),
            items,
            list(self._objective.losses.values()),
            partial(make_optimizer, recipe),
            (backbone.text, *sees, *self._teacher.modules),
        )

    def go(self, tell: Callable[[Row], None]) -> None:
        """Makes the updates that are left, with a checkpoint every so many and at the end.

        Raises:
            ValueError, OSError: As `train`.
        """
        recipe, progress, accelerator = self._recipe, self.progress, self._accelerator
        steps = self._batches()
        with closing(Tracking(recipe, accelerator)) as tracking:
            while progress.updates < recipe.steps:
                ready = next(steps)
                row = self._update(ready)
                progress.epoch, progress.batches = ready.epoch, ready.number
                del ready  # before the next one is made: attention outputs are gigabytes
                if row is None:  # gradients are still being gathered
                    continue
                progress.updates += 1
                last = progress.updates == recipe.steps
                progress.log.append({"step": progress.updates, **row})
                if last or progress.updates % recipe.every == 0:
                    progress.log[-1] |= self._held_out(accelerator.unwrap_model(self._student))
                    self._save()
                tracking(progress.log[-1])
                tell(progress.log[-1])

    def write_report(self, file: Path) -> None:
        """Draws the run's report beside the connector; see `report.write_report`."""
        shown = (self._data.held_out or self._data.first)[:MOST_CAPTIONS]
        items = [self._item(caption, HELD_OUT) for caption in shown]
        student = self._accelerator.unwrap_model(self._student)
        write_report(self._recipe, self.progress.log, file, student, items)

    def write_result(self, path: Path) -> None:
        """Writes the connector's file."""
        recipe, log = self._recipe, self.progress.log
        held = [row for row in log if "held_out" in row]
        facts = {
            "vlm": self._reader.vlm.name,
            "layers": self._reader.layers,
            "target": TARGETS[recipe.target].title,
            "keep": recipe.tokens,
            "teacher": self._teacher.name,
            "data": self._data.digest,
            "steps": self.progress.updates,
            "loss": log[-1]["loss"] if log else math.nan,
            "held_out": held[-1] if held else {},
            "licence": recipe.licence,
        }
        write_connector(self._accelerator.unwrap_model(self._student), path, recipe, facts)

    # --- the parts of a step ---------------------------------------------------------------------

    def _batches(self) -> Iterator[Ready]:
        """Batches with what the frozen models make of them; one ahead on another device."""
        found = batches(self._loader, self.progress.epoch, self.progress.batches)
        ready = (
            Ready(epoch, number, [self._prepare(caption, str(epoch)) for caption in batch])
            for epoch, number, batch in found
        )
        return one_ahead(ready) if self._apart else ready

    def _update(self, ready: Ready) -> Row | None:
        """One step; a row for the log where it updated the weights."""
        accelerator, student, recipe = self._accelerator, self._student, self._recipe
        batch = [item.caption for item in ready.items]
        with accelerator.accumulate(student):
            with accelerator.autocast():
                outputs = student([item.reading for item in ready.items])
            loss, found = self._objective(ready.items, outputs)
            self._need_finite(float(loss.detach()), "The loss", batch)
            accelerator.backward(loss)
            norm = None
            if accelerator.sync_gradients:
                largest = recipe.clip or math.inf
                norm = float(accelerator.clip_grad_norm_(student.parameters(), largest))
                self._need_finite(norm, "The gradient", batch)
            self._optimizer.step()
            rate = self._schedule.get_last_lr()[0]
            if norm is not None:
                self._schedule.step()
            self._optimizer.zero_grad()
        if norm is None:
            return None
        parts = {name: float(value) for name, value in found.items()}
        return {"loss": float(loss.detach()), "norm": norm, "lr": rate, **parts}

    def _need_finite(self, value: float, what: str, batch: Batch) -> None:
        """Stops before NaN or Inf reaches a weight."""
        if math.isfinite(value):
            return
        newest = self._checkpoints.newest
        kept = f"The checkpoint {newest.name} is kept." if newest else "There is no checkpoint yet."
        where = ", ".join(caption.where for caption in batch)
        raise ValueError(
            f"{what} is {value} in step {self.progress.updates + 1}, whose batch is {where}. "
            f"{kept} Lower lr, or set precision to no; if it happens again at that batch, look at "
            "its captions."
        )

    def _item(self, caption: Caption, draw: str) -> Item:
        return Item(caption, f"{self._recipe.seed} {draw}", self._reader, self._teacher)

    def _prepare(self, caption: Caption, draw: str) -> Item:
        """A caption with all that the frozen models make of it."""
        item = self._objective.prepare(self._item(caption, draw))
        item.reading  # noqa: B018 # here, so that it is ahead of the step
        return item

    def _save(self) -> None:
        self._checkpoints.save(self.progress.updates)
        if self._accelerator.is_main_process:
            lines = "".join(json.dumps(row) + "\n" for row in self.progress.log)
            write_whole(Path(self._recipe.out) / LOG, lines.encode())

    def _make_student(self, measured: Sequence[Item], features: Features) -> Student:
        """A new connector in units of what it reads and gives, or one to go on from."""
        recipe, teacher, reader = self._recipe, self._teacher, self._reader
        _, layers, _, width = measured[0].reading.layers.shape
        shape = Shape(width, teacher.width, layers, teacher.pooled)
        if recipe.start:
            module = load_connector(recipe.start).module
            check_start(module, shape, recipe)
            return Student(module.requires_grad_(True))
        title = TARGETS[recipe.target].title
        origin = Origin(RESULT, reader.vlm.name, reader.indices, title)
        module = make_connector(recipe, shape, origin)
        if isinstance(module, LAP):
            return Student(module)
        reads = None
        if isinstance(module, Chain):  # AlignNet begins with a norm; its readings are 100 MB each
            reads = Spread.of([_ordinary(item.reading) for item in measured])
        return Student(module, reads, features.spread, features.pooled_spread)


def one_ahead(ready: Iterator[Ready]) -> Iterator[Ready]:
    """The same, each prepared by a thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, ready)
        while True:
            found = coming.result()
            coming = thread.submit(next, ready)
            yield found


def _ordinary(reading: Reading) -> torch.Tensor:
    """What a connector of one layer reads, without pads and sinks, [n, D]."""
    states = reading.layers[0, 0].float()
    return states[kinds_of(states, reading.real[0].to(states.device)) == WORD]


def _check_folder(out: Path, made_from: dict[str, Any]) -> None:
    """Refuses a folder in which another recipe was run.

    Raises:
        ValueError: It was; names what differs.
    """
    file = out / RUN
    if not file.is_file():
        return
    before = read_json(file)
    changed = [k for k, v in made_from.items() if k not in FREE and before.get(k) != v]
    if changed:
        key = changed[0]
        raise ValueError(
            f"{out} holds a run whose {key} is {told(before.get(key))}, now it is "
            f"{told(made_from[key])}. Name another folder as out, or delete this one."
        )
