"""A run in TensorBoard, through accelerate's trackers."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from .recipe import TrainRecipe

# What accelerate's tracker of that name can write with.
_WRITERS = {"tensorboard": ("tensorboard", "tensorboardX")}


def need_tracker(recipe: TrainRecipe) -> None:
    """Refuses a tracker that is not installed, before a model is loaded.

    Raises:
        ModuleNotFoundError: Says how it is installed.
    """
    writers = _WRITERS.get(recipe.tracker, ())
    if writers and not any(map(find_spec, writers)):
        raise ModuleNotFoundError(
            f"tracker is {recipe.tracker}, which is not installed. Install it (pip install "
            f"{recipe.tracker}), or leave tracker empty: log.jsonl has the same numbers.",
            name=recipe.tracker,
        )


class Tracking:
    """Logs the updates of a run under the folder `out`; nowhere without a tracker."""

    def __init__(self, recipe: TrainRecipe, accelerator: Any):
        """Begins a part of the run.

        Args:
            recipe: Names the tracker; its values are written beside the numbers.
            accelerator: Made with it.
        """
        self._accelerator, self._on = accelerator, bool(recipe.tracker)
        if self._on:
            accelerator.init_trackers(recipe.tracker, config=asdict(recipe))

    def __call__(self, row: dict[str, float]) -> None:
        """Logs a row of the run's log."""
        if self._on:
            numbers = {name: value for name, value in row.items() if name != "step"}
            self._accelerator.log(numbers, step=int(row["step"]))

    def close(self) -> None:
        """Closes the files; the accelerator lives on."""
        for tracker in self._accelerator.trackers if self._on else ():
            tracker.finish()
