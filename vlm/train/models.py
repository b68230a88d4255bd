"""The frozen models of a run, and what accelerate and torch bring to it."""

from __future__ import annotations

from typing import Any

import torch

from ..devices import AUTO, torch_device
from ..load import load
from ..running.disk_cache import DiskCache
from .reader import Reader
from .recipe import TrainRecipe
from .student import Student
from .teacher import Teacher, load_teacher
from .tracking import need_tracker


def make_accelerator(recipe: TrainRecipe) -> Any:
    """accelerate's `Accelerator`: devices, processes, precision, gathered gradients.

    Raises:
        ModuleNotFoundError: accelerate or the tracker is not installed; says how it is.
    """
    need_tracker(recipe)
    try:
        from accelerate import Accelerator
        from accelerate.utils import DataLoaderConfiguration
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Training needs the package accelerate. Install what it takes: pip install .[train]",
            name=error.name,
        ) from error
    loading = DataLoaderConfiguration(
        use_seedable_sampler=True, data_seed=recipe.seed, dispatch_batches=False
    )
    return Accelerator(
        cpu=recipe.device == "cpu",
        mixed_precision=recipe.precision,
        gradient_accumulation_steps=recipe.accumulate,
        dataloader_config=loading,
        log_with=recipe.tracker or None,
        project_dir=recipe.out if recipe.tracker else None,
    )


def find_places(recipe: TrainRecipe, device: torch.device) -> tuple[torch.device, torch.device]:
    """Where the connector learns, and where the text encoder runs.

    Args:
        recipe: Names them.
        device: Of this process.

    Raises:
        ValueError: A device that is not there.
    """
    place = device if recipe.device == AUTO else torch_device(recipe.device)
    other = torch_device(recipe.teacher_device) if recipe.teacher_device else place
    same = (other.type, other.index or 0) == (place.type, place.index or 0)
    return place, place if same else other


def load_models(
    recipe: TrainRecipe, place: torch.device, teacher_place: torch.device
) -> tuple[Reader, Teacher]:
    """The VLM and the target's text encoder, each where it runs, with a cache if there is one.

    Args:
        recipe: Names them.
        place, teacher_place: Of `find_places`.

    Raises:
        FileNotFoundError, ValueError: As `vlm.load` and `load_teacher`.
    """
    cache = DiskCache(recipe.cache, recipe.cache_mb) if recipe.cache else None
    # All layers of a caption are some hundred MB: computing them again is faster than reading them.
    kept = None if recipe.connector.startswith("alignnet") else cache
    vlm = load(recipe.vlm, place, recipe.vlm_dtype, prefix_cache_mb=0, disk_cache=kept)
    return Reader(vlm, recipe), load_teacher(recipe, teacher_place, cache)


def make_optimizer(recipe: TrainRecipe, student: Student) -> torch.optim.Optimizer:
    """AdamW, or bitsandbytes' with 8-bit states.

    Raises:
        ValueError: bitsandbytes is asked for and not installed.
    """
    values = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if not recipe.eight_bit:
        return torch.optim.AdamW(student.parameters(), **values)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ValueError(
            "eight_bit needs bitsandbytes, which is not installed. Install it, or set eight_bit to "
            "false."
        ) from error
    return AdamW8bit(student.parameters(), **values)
