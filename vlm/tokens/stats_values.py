"""What may stand in reference statistics: vectors, and notes that say where they came from."""

import math
from typing import Any

import torch

from ..finite import is_finite
from ..quoted import told

LARGEST_STD = 3.4e38  # what float32 holds


def pooled_std(mean: torch.Tensor, std: torch.Tensor, n: int | None) -> float:
    """Std of all values of n tokens with these mean and std per dimension."""
    mean, std = mean.double(), std.double()
    within, between = std.square().sum(), (mean - mean.mean()).square().sum()
    if n is None or n < 2:
        return math.sqrt(float(within + between) / mean.numel())
    return math.sqrt(float((n - 1) * within + n * between) / (n * mean.numel() - 1))


def check_notes(stats: Any) -> None:
    """Refuses notes of another kind, which files of others may hold.

    Args:
        stats: with model, layer, prompts, count, sinks and global_std, each of which may be None.

    Raises:
        ValueError: names the note and what was expected.
    """

    def whole(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63

    def number(value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    std, prompts = stats.global_std, stats.prompts
    most = stats.count if whole(stats.count) and stats.count else math.inf
    kinds = {
        "model": (isinstance(stats.model, str), "text"),
        "layer": (isinstance(stats.layer, str) or number(stats.layer), "a layer's number or text"),
        "prompts": (
            isinstance(prompts, tuple) and all(isinstance(each, str) for each in prompts),
            "a list of texts",
        ),
        "count": (whole(stats.count), "a number of tokens"),
        "sinks": (whole(stats.sinks) and stats.sinks <= most, "at most count"),
        "global_std": (number(std) and 0 <= std <= LARGEST_STD, "a std from 0"),
    }
    for name, (right, expected) in kinds.items():
        value = getattr(stats, name)
        if value is not None and not right:
            raise ValueError(
                f"Reference statistics have {name} {told(value)}, expected {expected}. "
                "Measure them again."
            )


def vector(name: str, value: object) -> torch.Tensor:
    """``value`` as [D] float32 on the CPU, if it can be a mean or std.

    Raises:
        TypeError: no numbers.
        ValueError: another shape, NaN or Inf, a std below 0.
    """
    try:
        tensor = torch.as_tensor(value).detach().to("cpu", torch.float32)
    except (ArithmeticError, TypeError, ValueError, RuntimeError) as error:
        kind = type(value).__name__
        raise TypeError(
            f"`{name}` of reference statistics is a {kind}, expected a tensor [D] or a list of D "
            "numbers."
        ) from error
    if tensor.ndim != 1 or not tensor.numel():
        raise ValueError(
            f"Reference statistics need {name} as [D], one value per dimension; "
            f"this is {list(tensor.shape)}."
        )
    if not is_finite(tensor):
        raise ValueError(
            f"Reference statistics have NaN or Inf in {name}. Encode the reference in bfloat16 or "
            f"float32 and measure again."
        )
    if name.startswith("std") and (tensor < 0).any():
        raise ValueError(f"Reference statistics have a negative value in {name}.")
    return tensor
