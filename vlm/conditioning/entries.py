"""CONDITIONING as plain data: its entries, their token maps, their ranges of the schedule.

ComfyUI's CONDITIONING is `[[tensor [B, N, D], options], ...]`. Several entries stand side by side
where conditionings were combined or given ranges of time; a node works on each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..arguments import checked
from ..devices import torch_device
from ..finite import LOUD, OVERFLOW, is_finite, need_finite
from ..quoted import printable
from ..token_map import map_text, read_map
from ..tokens.beside import split_options
from ..tokens.tokens import Tokens

MAP = "vlm_tokens"
START, END = "start_percent", "end_percent"
STRENGTH = "strength"  # by which ComfyUI's samplers weigh what each entry predicts
POOLED = "pooled_output"
_LONGEST_NAME = 60  # characters of a socket's name in a message
SMALLEST_GAP = 1e-4  # of the schedule; native nodes leave a smaller one between ranges


@dataclass(frozen=True)
class Entry:
    """One entry of a CONDITIONING.

    Attributes:
        tokens: Its tensor with the token map, if that fits.
        options: Everything else; never changed in place, since nodes share it. Those that are bound
            to the tokens, such as a mask, go to `tokens.beside`; those of other tokens are dropped.
    """

    tokens: Tokens
    options: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.tokens, Tokens) or not isinstance(self.options, dict):
            kinds = type(self.tokens).__name__, type(self.options).__name__
            raise TypeError(f"An Entry is Tokens and a dict of options, this is {kinds}.")
        beside, rest = split_options(self.options, self.tokens.n)
        if len(rest) < len(self.options):
            tokens = replace(self.tokens, beside={**self.tokens.beside, **beside})
            object.__setattr__(self, "tokens", tokens)
            object.__setattr__(self, "options", rest)

    def __repr__(self) -> str:
        return f"Entry({self.tokens}, options: {', '.join(self.all_options) or 'none'})"

    @property
    def all_options(self) -> dict[str, Any]:
        """Its options, those that are bound to its tokens among them; the map is not."""
        return {**self.options, **self.tokens.beside}

    @property
    def span(self) -> tuple[float, float]:
        """Start and end in the sampling schedule, 0..1."""
        return self.options.get(START, 0.0), self.options.get(END, 1.0)

    def within(self, start: float, end: float) -> Entry | None:
        """The entry in that range of the schedule only; None where it has no part in it."""
        start, end = max(start, self.span[0]), min(end, self.span[1])
        if start >= end:
            return None
        if (start, end) == self.span:
            return self
        return replace(self, options={**self.options, START: start, END: end})

    def weighted(self, share: float) -> Entry:
        """The entry with that share of its weight where several predict together."""
        if share == 1.0:
            return self
        return replace(
            self, options={**self.options, STRENGTH: share * self.options.get(STRENGTH, 1.0)}
        )


@checked
def read_entries(
    conditioning: Any, socket: str = "conditioning", takes: str = "CONDITIONING"
) -> list[Entry]:
    """Reads a CONDITIONING.

    Args:
        conditioning: What came over the wire.
        socket: Name of the input, for messages.
        takes: What it takes, for messages.

    Returns:
        Its entries, at least one.

    Raises:
        TypeError: Not a CONDITIONING.
        ValueError: An empty one, or an entry whose tensor is not [B, N, D] or holds NaN or Inf.
    """
    socket, takes = (printable(name[:_LONGEST_NAME]) for name in (socket, takes))
    if not isinstance(conditioning, list):
        kind = type(conditioning).__name__
        fix = f"Connect {takes}."
        if kind == "HiddenStates":
            kind = "hidden states"
            fix = "Put `select_layers`, `lap_pool` or `load_connector` in between."
        raise TypeError(f"{socket} needs {takes}, this is {kind}. {fix}")
    if not conditioning:
        raise ValueError(f"{socket} is an empty CONDITIONING. Connect one with at least one entry.")
    return [_read_entry(entry, socket) for entry in conditioning]


def _read_entry(entry: Any, socket: str) -> Entry:
    wrong = not isinstance(entry, (list, tuple)) or len(entry) != 2
    if wrong or not isinstance(entry[0], torch.Tensor) or not isinstance(entry[1], dict):
        raise TypeError(
            f"{socket} needs CONDITIONING, a list of [tensor, options]; an entry of it is "
            f"{type(entry).__name__}. Connect the output of a text encoder or of a gate."
        )
    states, options = entry
    if states.ndim != 3:
        raise ValueError(
            f"{socket}: the tensor is {list(states.shape)}, expected [batch, tokens, width]. "
            "Connect the output of a text encoder or of a gate."
        )
    need_finite(states, socket, OVERFLOW)
    token_map = read_map(options.get(MAP), states.shape[1])
    rest = {key: value for key, value in options.items() if key != MAP}
    return Entry(Tokens(states, token_map), rest)


@checked
def write_entries(entries: list[Entry], device: torch.device | str = "cpu") -> list[list[Any]]:
    """Writes a CONDITIONING: float32 on `device`, the token map among the options as JSON.

    Raises:
        ValueError: The tokens or the pooled vector of an entry hold NaN or Inf.
    """
    device = torch_device(device)
    return [_write_entry(entry, device) for entry in entries]


def _write_entry(entry: Entry, device: torch.device | str) -> list[Any]:
    options = entry.all_options
    for name, value in entry.tokens.beside.items():
        options[name] = value.to(device) if isinstance(value, torch.Tensor) else value
    if entry.tokens.token_map is not None:
        options[MAP] = map_text(entry.tokens.token_map)
    states = entry.tokens.states.to(device, torch.float32)
    need_finite(states, "What is made here", LOUD)
    pooled = options.get(POOLED)
    if isinstance(pooled, torch.Tensor) and not is_finite(pooled):
        raise ValueError(
            f"The {POOLED} of this conditioning holds NaN or Inf, finite numbers were expected. "
            f"{OVERFLOW}"
        )
    return [states, options]


def map_tokens(entries: list[Entry], change: Callable[[Tokens], Tokens]) -> list[Entry]:
    """Every entry with `change` done to its tokens."""
    return [replace(entry, tokens=change(entry.tokens)) for entry in entries]


def pair(main: list[Entry], other: list[Entry]) -> list[tuple[Entry, Entry]]:
    """Pairs the entries of two CONDITIONINGs for a node that joins them.

    A single entry goes with all of the other side. Otherwise entries go together where their
    ranges of the schedule overlap; the pair takes the overlap, and the options of `main`.

    Args:
        main: The side whose options stay (the text side).
        other: The other side.

    Returns:
        Pairs in the order of `main`.

    Raises:
        ValueError: A part of an entry of `main` overlaps with nothing of `other`.
    """
    if len(other) == 1:
        return [(entry, other[0]) for entry in main]
    if len(main) == 1 and all(entry.span == (0.0, 1.0) for entry in other):
        return [(main[0], entry) for entry in other]
    pairs = []
    for entry in main:
        cuts = [(entry.within(*candidate.span), candidate) for candidate in other]
        overlapping = [(cut, candidate) for cut, candidate in cuts if cut is not None]
        gap = _gap(entry.span, [cut.span for cut, _ in overlapping])
        if gap is not None:
            raise ValueError(
                f"From {gap[0]:.0%} to {gap[1]:.0%} of the schedule an entry has no counterpart: "
                "the other conditioning has no entry in that range. Give both the same time "
                "ranges, or connect one with a single entry."
            )
        pairs += overlapping
    return pairs


def _gap(
    span: tuple[float, float], covered: list[tuple[float, float]]
) -> tuple[float, float] | None:
    """The first part of `span` that nothing covers; None where all is covered."""
    reached, end = span
    for start, stop in sorted(covered):
        if start > reached + SMALLEST_GAP:
            return reached, start
        reached = max(reached, stop)
    return (reached, end) if end > reached + SMALLEST_GAP else None
