"""What a text encoder writes beside its tensor about its tokens, and how it follows them.

Three options of a CONDITIONING are bound to its tokens: `attention_mask` [B, N] (1 = read this
token), `minimax_token_tags` [N] (0 = a picture's or one of its markers, 1 = words) and
`image_slots` (for each picture the number of tokens before it; Qwen-Image 2.1 puts the picture's
latent there). Whatever takes tokens out, joins or averages them has to change these as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

MASK, TAGS, SLOTS = "attention_mask", "minimax_token_tags", "image_slots"
_PER_TOKEN = (MASK, TAGS)
WORDS = 1  # the tag of tokens that are no picture's; a mask's 1 means the same: nothing special

Beside = Mapping[str, Any]


def split_options(options: Mapping[str, Any], n: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parts the options of a tensor of `n` tokens.

    Returns:
        What is bound to its tokens, and the rest. What was bound to other tokens (another number
        of them, a place behind the last) is in neither: it no longer means anything.
    """
    bound = {key: value for key, value in options.items() if key in (*_PER_TOKEN, SLOTS)}
    rest = {key: value for key, value in options.items() if key not in bound}
    return {key: value for key, value in bound.items() if _fits(key, value, n)}, rest


def _fits(key: str, value: Any, n: int) -> bool:
    if key in _PER_TOKEN:
        return isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape[-1] == n
    return isinstance(value, list) and all(type(at) is int and 0 <= at <= n for at in value)


def take(beside: Beside, indices: Sequence[int]) -> dict[str, Any]:
    """What is beside some of the tokens, in that order.

    Args:
        beside: Of all.
        indices: Of those that stay, origin 0; for a token that was averaged from several the first
            of these.
    """
    taken: dict[str, Any] = {}
    for key, value in beside.items():
        if key == SLOTS:
            taken[key] = [sum(index < at for index in indices) for at in value]
        else:
            index = torch.tensor(list(indices), device=value.device, dtype=torch.long)
            taken[key] = value.index_select(-1, index)
    return taken


def join(parts: Iterable[tuple[Beside, int]]) -> dict[str, Any]:
    """What is beside tokens that follow one another.

    Args:
        parts: Of each what is beside it, and its number of tokens. A part without a mask or tags
            counts as words to be read.
    """
    parts = list(parts)
    joined: dict[str, Any] = {}
    for key in {key: None for beside, _ in parts for key in beside}:
        if key == SLOTS:
            before = 0
            joined[key] = []
            for beside, n in parts:
                joined[key] += [before + at for at in beside.get(key, [])]
                before += n
            continue
        known = next(beside[key] for beside, _ in parts if key in beside)
        columns = [
            beside[key].to(known)
            if key in beside
            else known.new_full((*known.shape[:-1], n), WORDS)
            for beside, n in parts
        ]
        rows = max((column.shape[0] for column in columns if column.ndim > 1), default=0)
        if rows:
            columns = [column.expand(rows, -1) for column in columns]
        joined[key] = torch.cat(columns, dim=-1)
    return joined
