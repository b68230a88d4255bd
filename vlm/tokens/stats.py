"""Reference statistics: mean and std per dimension of a target's own text encoder."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..arguments import checked
from ..files.whole_file import write_whole
from .spread import sink_tokens
from .tokens import Tokens

_FORMAT = "vlm_stats"
_NOTES = ("model", "layer", "prompts", "count", "global_std")


@dataclass(frozen=True, eq=False)
class Stats:
    """Reference statistics. Tensors are float32 on the CPU (lists are converted).

    Attributes:
        mean, std: ``[D]`` per dimension over tokens, std with N - 1.
        model, layer, prompts: where the tokens came from, for people.
        count: number of tokens measured.
        global_std: std of all values pooled. Where it is not given it follows from mean and std:
            ``((N - 1) sum(std²) + N sum((mean - mean of means)²)) / (N D - 1)`` is its square for N
            tokens (exact); without a count the limit for many tokens, mean(std²) + var(mean).
        std_without_sinks: ``[D]``, std without sink tokens (see ``spread.sink_tokens``), for the
            robust scale; None if not measured.

    Raises:
        ValueError: shapes that differ, NaN or Inf, a negative std.
    """

    mean: torch.Tensor
    std: torch.Tensor
    model: str | None = None
    layer: int | str | None = None
    prompts: tuple[str, ...] | None = None
    count: int | None = None
    global_std: float | None = None
    std_without_sinks: torch.Tensor | None = None

    def __post_init__(self) -> None:
        _check_notes(self.model, self.layer, self.prompts, self.count, self.global_std)
        for name in ("mean", "std", "std_without_sinks"):
            if name != "std_without_sinks" or self.std_without_sinks is not None:
                object.__setattr__(self, name, _vector(name, getattr(self, name)))
        for name in ("std", "std_without_sinks"):
            value = getattr(self, name)
            if value is not None and value.shape != self.mean.shape:
                raise ValueError(
                    f"Reference statistics need as many values in {name} as in mean: "
                    f"{value.numel()} and {self.mean.numel()}."
                )
        if self.prompts is not None:
            object.__setattr__(self, "prompts", tuple(self.prompts))
        if self.global_std is None:
            object.__setattr__(self, "global_std", self._pooled_std())
        if not (math.isfinite(self.global_std) and self.global_std >= 0):
            raise ValueError(f"Reference statistics have global_std {self.global_std}.")

    def __repr__(self) -> str:
        counted = (
            f"{self.count} tokens" if self.count is not None else "an unknown number of tokens"
        )
        of = f" of {self.model}" if self.model else ""
        return f"Stats({self.width} dimensions{of}, std {self.global_std:.4g}, from {counted})"

    @property
    def width(self) -> int:
        """D, the width of the tokens that were measured."""
        return self.mean.numel()

    def _pooled_std(self) -> float:
        mean, std = self.mean.double(), self.std.double()
        within, between = std.square().sum(), (mean - mean.mean()).square().sum()
        if self.count is None or self.count < 2:
            return math.sqrt(float(within + between) / mean.numel())
        n = self.count
        return math.sqrt(float((n - 1) * within + n * between) / (n * mean.numel() - 1))


@checked
def measure_stats(
    tokens: Tokens | Iterable[Tokens],
    model: str | None = None,
    layer: int | str | None = None,
    prompts: Sequence[str] | None = None,
) -> Stats:
    """Measure reference statistics over all tokens of all batch rows and entries.

    Args:
        tokens: ``[B, N, D]`` of the target's own encoder, or several of them, of one width. They
            are read one after the other; nothing is stacked.
        model, layer, prompts: noted in the result.

    Returns:
        ``Stats`` with mean and std (N - 1) per dimension, in float32 on the CPU.

    Raises:
        ValueError: fewer than two tokens, different widths, NaN or Inf.
    """
    entries = [tokens] if isinstance(tokens, Tokens) else tokens
    pool = ordinary = (0, 0.0, 0.0)  # n, mean, sum of squared differences from it
    width = None
    for entry in entries:
        width = width or entry.width
        if entry.width != width:
            raise ValueError(
                f"VLM Reference Statistics got conditionings of different widths, {width} and "
                f"{entry.width}. Measure one encoder and layer at a time."
            )
        states = entry.states.float()
        rows = states.flatten(0, 1)
        sink = sink_tokens(states).flatten()
        pool = _add_tokens(pool, rows)
        ordinary = _add_tokens(ordinary, rows[~sink] if sink.any() else rows)
    if pool[0] < 2:
        raise ValueError(
            f"VLM Reference Statistics measures a spread over tokens and needs at least 2, it got "
            f"{pool[0]}. Connect a longer text CONDITIONING, or several."
        )
    stds = [(part[2] / (part[0] - 1)).sqrt() for part in (pool, ordinary)]
    return Stats(pool[1], stds[0], model, layer, prompts, pool[0], std_without_sinks=stds[1])


@checked
def save_stats(stats: Stats, path: str | Path) -> None:
    """Write statistics as safetensors: ``mean``, ``std`` and, if measured, ``std_without_sinks``,
    float32.

    The metadata hold JSON strings: model, layer, prompts, count, global_std.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} for the statistics does not exist.")
    names = ("mean", "std", "std_without_sinks")
    tensors = {name: getattr(stats, name) for name in names}
    tensors = {name: value.clone() for name, value in tensors.items() if value is not None}
    notes = {name: json.dumps(getattr(stats, name)) for name in _NOTES}
    write_whole(path, save(tensors, {"format": _FORMAT, **notes}))


@checked
def load_stats(path: str | Path) -> Stats:
    """Read statistics: a safetensors file with ``mean`` [D] and ``std`` [D].

    Metadata are read where ``save_stats`` wrote them; a file without them will do.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, missing tensors, NaN or Inf.
    """
    path = Path(path)
    expected = "Expected what VLM Reference Statistics saves: safetensors with mean and std."
    if not path.is_file():
        raise FileNotFoundError(f"There is no statistics file {path}. {expected}")
    try:
        with safe_open(path, "pt") as file:
            have = list(file.keys())
            names = [n for n in ("mean", "std", "std_without_sinks") if n in have]
            # Cloned: what safe_open gives are pages of the file, which can be overwritten or cut.
            tensors = {name: file.get_tensor(name).clone() for name in names}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path.name} is not a safetensors file ({error}). {expected}") from error
    if not {"mean", "std"} <= set(tensors):
        some = ", ".join(sorted(have)[:5]) or "nothing"
        raise ValueError(f"{path.name} holds no statistics but {some}. {expected}")
    notes = {}
    if metadata.get("format") == _FORMAT:
        try:
            notes = {name: json.loads(metadata[name]) for name in _NOTES if name in metadata}
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"The metadata of {path.name} are damaged ({error}).") from error
    try:
        return Stats(**tensors, **notes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be used: {error} {expected}") from error


def need_stats(stats: Stats | None, t: Tokens, doing: str) -> Stats:
    """``stats`` if it is there and fits ``t``; ``doing`` names in the error what needs it.

    Raises:
        TypeError: something else than ``Stats``.
        ValueError: no reference, or one of another width.
    """
    if stats is None:
        raise ValueError(
            f"{doing} compares with a reference, and there is none. Give one as `stats`."
        )
    if not isinstance(stats, Stats):
        raise TypeError(
            f"{doing} takes reference statistics, this is {type(stats).__name__}. "
            f"Measure them with measure_stats."
        )
    if stats.width != t.width:
        raise ValueError(
            f"The reference is {stats.width} wide, these tokens are {t.width} wide. Take both from "
            f"the same kind of encoder and the same choice of layers."
        )
    return stats


def _add_tokens(pool: tuple, rows: torch.Tensor) -> tuple:
    """Add ``rows`` [N, D] to a running (n, mean, sum of squares about it), float64 on the CPU."""
    mean = rows.mean(dim=0)
    own = (rows - mean).square_().sum(dim=0).cpu().double()  # cpu first: MPS has no float64
    n, m = pool[0], rows.shape[0]
    step = mean.cpu().double() - pool[1]
    spread = pool[2] + own + step.square() * (n * m / (n + m))
    return n + m, pool[1] + step * (m / (n + m)), spread


@partial(checked, name="Stats")
def _check_notes(
    model: str | None,
    layer: int | str | None,
    prompts: Sequence[str] | None,
    count: int | None,
    global_std: float | None,
) -> None:
    """Refuses notes that cannot be: other types, a negative count."""
    if count is not None and count < 0:
        raise ValueError(f"`count` of `Stats` is {count}, expected a number of tokens from 0.")


def _vector(name: str, value: object) -> torch.Tensor:
    """``value`` as [D] float32 on the CPU, if it can be a mean or std."""
    try:
        value = torch.as_tensor(value).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(value).__name__
        raise TypeError(
            f"`{name}` of reference statistics is a {kind}, expected a tensor [D] or a list of D "
            "numbers."
        ) from error
    if value.ndim != 1 or not value.numel():
        raise ValueError(
            f"Reference statistics need {name} as [D], one value per dimension; "
            f"this is {list(value.shape)}."
        )
    if not value.isfinite().all():
        raise ValueError(
            f"Reference statistics have NaN or Inf in {name}. Encode the reference in bfloat16 or "
            f"float32 and measure again."
        )
    if name != "mean" and (value < 0).any():
        raise ValueError(f"Reference statistics have a negative value in {name}.")
    return value
