"""Reference statistics: mean and std per dimension of a target's own text encoder.

Three dimensions of Qwen3-4B's penultimate layer (4, 396, 0: published std 2753, 949, 193 against a
median of 5.6) carry nearly all of its energy, and they do so in its sink tokens alone. Brought to
that spread, every image token gets 98 % of its energy in these three, and behind the diffusion
model's first RMSNorm the other 2557 arrive at 0.2 to 0.6 of normal. So both are measured and kept:
with sink tokens, as published, and without.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from ..arguments import checked
from ..files.tensor_file import UNREADABLE, check_dimensions
from ..files.whole_file import write_whole
from ..quoted import reason, told
from .spread import STD_FLOOR, massive_dims, sink_tokens
from .stats_npz import read_npz
from .stats_values import check_notes, pooled_std, vector
from .tokens import Tokens

_FORMAT = "vlm_stats"
_NOTES = ("model", "layer", "prompts", "count", "global_std", "sinks")
_VECTORS = ("mean", "std", "mean_without_sinks", "std_without_sinks")
# Number of tokens, their mean [D], sum of squared differences from it [D]; of no tokens, numbers.
_Sums: TypeAlias = tuple[int, Any, Any]
FEW_TOKENS = 256  # the std of fewer is unsteady: by 1 / sqrt(2 N), 5 % of 256 and 20 % of 12


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
        std_without_sinks, mean_without_sinks: ``[D]``, the same without sink tokens (see
            ``spread.sink_tokens``); None if not measured.
        sinks: number of sink tokens among the ``count``; None if not measured.

    Raises:
        ValueError: shapes that differ, NaN or Inf, a negative std, notes of another kind.
    """

    mean: torch.Tensor
    std: torch.Tensor
    model: str | None = None
    layer: int | str | None = None
    prompts: tuple[str, ...] | None = None
    count: int | None = None
    global_std: float | None = None
    std_without_sinks: torch.Tensor | None = None
    mean_without_sinks: torch.Tensor | None = None
    sinks: int | None = None

    def __post_init__(self) -> None:
        for name in _VECTORS:
            if name in ("mean", "std") or getattr(self, name) is not None:
                object.__setattr__(self, name, vector(name, getattr(self, name)))
        for name in _VECTORS[1:]:
            value = getattr(self, name)
            if value is not None and value.shape != self.mean.shape:
                raise ValueError(
                    f"Reference statistics need as many values in {name} as in mean: "
                    f"{value.numel()} and {self.mean.numel()}."
                )
        if self.prompts is not None and not isinstance(self.prompts, str):
            prompts = self.prompts
            arrays = torch.Tensor | np.ndarray
            several = isinstance(prompts, Iterable) and not isinstance(prompts, arrays)
            object.__setattr__(self, "prompts", tuple(prompts) if several else prompts)
        check_notes(self)
        if self.global_std is None:
            std = pooled_std(self.mean, self.std, self.count)
            object.__setattr__(self, "global_std", std)

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

    @property
    def massive(self) -> tuple[int, ...]:
        """Massive dimensions, from 0: ``std`` over 10 times the median."""
        return tuple(massive_dims(self.std).nonzero().flatten().tolist())

    def ordinary(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and std ``[D]`` of ordinary tokens, for what scales to them.

        As measured without sink tokens. Where that was not measured (statistics of others), the
        massive dimensions are those that sinks made: their std becomes the median of the other
        dimensions, and their mean shrinks by the same factor, since both come from the same tokens.
        """
        if self.std_without_sinks is not None and self.mean_without_sinks is not None:
            return self.mean_without_sinks, self.std_without_sinks
        std = self.std_without_sinks
        massive = massive_dims(self.std)
        if std is None:
            std = torch.where(massive, self.std[~massive].median(), self.std)
        shrunk = self.mean * (std / self.std.clamp_min(STD_FLOOR)).clamp_max(1)
        return torch.where(massive, shrunk, self.mean), std

    def ordinary_std_of_all(self) -> float:
        """Std of all values of ordinary tokens, as ``global_std`` is of all."""
        count = self.count if self.count is None else self.count - (self.sinks or 0)
        return pooled_std(*self.ordinary(), count)


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
        ``Stats`` with mean and std (N - 1) per dimension, with and without sink tokens, in float32
        on the CPU.

    Raises:
        ValueError: fewer than two tokens, different widths, NaN or Inf.
    """
    entries = [tokens] if isinstance(tokens, Tokens) else tokens
    pool: _Sums = (0, 0.0, 0.0)
    ordinary = pool
    width = None
    for entry in entries:
        width = width or entry.width
        if entry.width != width:
            raise ValueError(
                f"`measure_stats` got conditionings of different widths, {width} and "
                f"{entry.width}. Measure one encoder and layer at a time."
            )
        states = entry.states.float()
        rows = states.flatten(0, 1)
        sink = sink_tokens(states).flatten()
        pool = _add_tokens(pool, rows)
        ordinary = _add_tokens(ordinary, rows[~sink] if sink.any() else rows)
    if pool[0] < 2:
        raise ValueError(
            f"`measure_stats` measures a spread over tokens and needs at least 2, it got "
            f"{pool[0]}. Give it a longer text, or several."
        )
    stds = [(part[2] / (part[0] - 1)).sqrt() for part in (pool, ordinary)]
    noted = None if prompts is None else tuple(prompts)
    evidence = (model, layer, noted, pool[0])
    sinks = pool[0] - ordinary[0]
    return Stats(pool[1], stds[0], *evidence, None, stds[1], ordinary[1], sinks)


def few_tokens(stats: Stats) -> str | None:
    """Words for statistics of too few tokens to be steady; None where they are enough.

    The std of a dimension over N tokens is uncertain by 1 / sqrt(2 (N - 1)).
    """
    if stats.count is None or not 2 <= stats.count < FEW_TOKENS:
        return None
    spread = 1 / math.sqrt(2 * (stats.count - 1))
    return (
        f"only {stats.count} tokens were measured, so each std is uncertain by {spread:.0%}: "
        f"connect more prompts, for {FEW_TOKENS} tokens or more"
    )


@checked
def save_stats(stats: Stats, path: str | Path) -> None:
    """Write statistics as safetensors: ``mean``, ``std`` and, if measured, both without sink tokens
    (``mean_without_sinks``, ``std_without_sinks``), float32.

    The metadata hold JSON strings: model, layer, prompts, count, global_std, sinks.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} for the statistics does not exist.")
    tensors = {name: getattr(stats, name) for name in _VECTORS}
    tensors = {name: value.clone() for name, value in tensors.items() if value is not None}
    notes = {name: json.dumps(getattr(stats, name)) for name in _NOTES}
    write_whole(path, save(tensors, {"format": _FORMAT, **notes}))


@checked
def load_stats(path: str | Path) -> Stats:
    """Read statistics: a safetensors file with ``mean`` [D] and ``std`` [D], or the research's npz.

    Metadata are read where ``save_stats`` wrote them; a file without them will do. An ``.npz`` has
    ``per_dim_mean``, ``per_dim_std`` and perhaps ``global_std``; nothing in it is unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, missing tensors, NaN or Inf, notes of another kind.
    """
    path = Path(path)
    expected = "Expected what `save_stats` writes: safetensors with mean and std."
    if not path.is_file():
        raise FileNotFoundError(f"There is no statistics file {path}. {expected}")
    if path.suffix.lower() == ".npz":
        return _made(path, read_npz(path))
    try:
        with safe_open(path, "pt") as file:
            have = list(file.keys())
            names = [n for n in _VECTORS if n in have]
            # Cloned: what safe_open gives are pages of the file, which can be overwritten or cut.
            tensors = {name: file.get_tensor(name).clone() for name in names}
            metadata = file.metadata() or {}
            check_dimensions(tensors, path)
    except UNREADABLE as error:
        raise ValueError(
            f"{path.name} is not a safetensors file ({reason(error)}). {expected}"
        ) from error
    if not {"mean", "std"} <= set(tensors):
        some = ", ".join(map(told, sorted(have)[:5])) or "nothing"
        raise ValueError(f"{path.name} holds no statistics but {some}. {expected}")
    notes = {}
    if metadata.get("format") == _FORMAT:
        try:
            notes = {name: json.loads(metadata[name]) for name in _NOTES if name in metadata}
        except (ValueError, RecursionError) as error:  # too many digits are no JSON error
            raise ValueError(
                f"The metadata of {path.name} are damaged ({type(error).__name__}). {expected}"
            ) from error
    return _made(path, {**tensors, **notes})


def _made(path: Path, values: dict) -> Stats:
    """Statistics of a file's values; errors name the file."""
    try:
        return Stats(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} holds no statistics that can be used. {error}") from error


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


def _add_tokens(pool: _Sums, rows: torch.Tensor) -> _Sums:
    """Add ``rows`` [N, D] to a running (n, mean, sum of squares about it), float64 on the CPU."""
    mean = rows.mean(dim=0)
    own = (rows - mean).square_().sum(dim=0).cpu().double()  # cpu first: MPS has no float64
    n, m = pool[0], rows.shape[0]
    step = mean.cpu().double() - pool[1]
    spread = pool[2] + own + step.square() * (n * m / (n + m))
    return n + m, pool[1] + step * (m / (n + m)), spread
