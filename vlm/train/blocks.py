"""Which attention outputs of a diffusion model are compared, and hearing them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn

from ..quoted import told
from .dit import STREAMS, Dit

ALL = "all"
_N = "[0-9]{1,9}"
_PART = re.compile(rf"(?P<group>[a-z_]+)(\.(?P<numbers>-?{_N}|(-?{_N})?:(-?{_N})?(:{_N})?))?")


class Place(NamedTuple):
    """An attention module: its kind of block, and its number among them from 0."""

    group: str
    number: int


def parse_blocks(text: str, groups: Mapping[str, Sequence[Any]]) -> tuple[Place, ...]:
    """Blocks by what a person wrote.

    Args:
        text: `all`, or kinds of block separated by commas, each with a number or a range behind a
            dot if it is not meant whole: `double, single.0:38:2, single.37`.
        groups: The kinds there are.

    Raises:
        ValueError: A kind or a number that does not exist; says which do.
    """
    if text.strip() == ALL:
        return tuple(Place(name, at) for name, own in groups.items() for at in range(len(own)))
    found: list[Place] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None or match["group"] not in groups:
            raise _unknown(part.strip(), groups)
        group = match["group"]
        chosen = _numbers(match["numbers"], len(groups[group]))
        if not chosen:
            raise _unknown(part.strip(), groups)
        found += [Place(group, at) for at in chosen if Place(group, at) not in found]
    return tuple(found)


def parse_streams(text: str) -> tuple[str, ...]:
    """Streams by what a person wrote: `image`, `text`, or both with a comma.

    Raises:
        ValueError: Another word; says which there are.
    """
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for stream in found:
        if stream not in STREAMS:
            raise ValueError(
                f"streams names {told(stream)}, there are {' and '.join(STREAMS)}. Write one of "
                "them, or both with a comma."
            )
    return found


@contextmanager
def heard(dit: Dit, places: Sequence[Place]) -> Iterator[dict[Place, Any]]:
    """What attention modules give while the model runs inside."""
    outputs: dict[Place, Any] = {}

    def hook(place: Place) -> Any:
        def keep(module: nn.Module, given: Any, output: Any) -> None:
            outputs[place] = output

        return keep

    modules = [(place, dit.groups[place.group][place.number]) for place in places]
    handles = [module.register_forward_hook(hook(place)) for place, module in modules]
    try:
        yield outputs
    finally:  # before the backward: checkpointing runs the blocks once more there
        for handle in handles:
            handle.remove()


def _numbers(text: str | None, count: int) -> list[int]:
    every = list(range(count))
    if text is None:
        return every
    if ":" in text:
        return every[slice(*(int(part) if part else None for part in text.split(":")))]
    return [every[int(text)]] if -count <= int(text) < count else []


def _unknown(part: str, groups: Mapping[str, Sequence[Any]]) -> ValueError:
    there = ", ".join(f"{name} 0 to {len(own) - 1}" for name, own in groups.items() if own)
    return ValueError(
        f"blocks names {told(part)}, this diffusion model has {there}. Write all, a kind, or a "
        "kind with a number or range behind a dot, such as double.0:4."
    )
