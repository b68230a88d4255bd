"""What a target sees of hidden states, and what its own text encoder writes beside that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..targets.target import ALWAYS, MASK, SLOTS, TAGS
from .beside import WORDS

if TYPE_CHECKING:
    from ..running.hidden_states import HiddenStates

_OF_A_PICTURE = ("image", "vision_marker")


def seen_by_target(h: HiddenStates) -> HiddenStates:
    """Hidden states without the tokens that the target never sees; nothing is run or copied."""
    roles = h.token_map["role"]
    kept = range(h.dropped, h.n)
    if SLOTS in h.target.writes:
        without = [at for at in kept if roles[at] != "image"]
        return h if len(without) == h.n else h.take(without)
    return h.take(kept) if h.dropped else h


def written_beside(h: HiddenStates) -> dict[str, Any]:
    """What the target's own text encoder writes about these tokens (see `beside.py`).

    Args:
        h: What the target sees, of `seen_by_target`.

    Returns:
        Options by their names: a mask int64 [1, N], tags int64 [N], slots as numbers. What it
        writes only beside pad tokens or pictures is there only with these.
    """
    beside: dict[str, Any] = {}
    roles = h.token_map["role"]
    pads = [role == "pad" for role in roles]
    if h.target.mask == ALWAYS or (h.target.mask and any(pads)):
        beside[MASK] = torch.tensor([[int(not pad) for pad in pads]])
    if TAGS in h.target.writes:
        beside[TAGS] = torch.tensor([0 if role in _OF_A_PICTURE else WORDS for role in roles])
    if SLOTS in h.target.writes and h.has_images:
        beside[SLOTS] = _places_of_pictures(h)
    return beside


def _places_of_pictures(h: HiddenStates) -> list[int]:
    """For each picture the number of tokens before its own, or before where they were."""
    whole, kept = h.origin
    first: dict[int, int] = {}
    for at, (role, number) in enumerate(zip(whole["role"], whole["image"], strict=True)):
        if role == "image":
            first.setdefault(number, at)
    return [sum(index < first[number] for index in kept) for number in sorted(first)]
