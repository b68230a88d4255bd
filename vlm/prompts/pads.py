"""Pad tokens around a prompt that is laid out, as its target or its template was trained."""

from __future__ import annotations

from dataclasses import replace

from ..families import Family
from ..targets import Target
from ..token_map import join, new_map, turn_column
from .padding import RIGHT, Padding
from .prompt import Prompt
from .token_columns import TokenColumns
from .tokenizer import Tokenizer


def pad_prompt(
    prompt: Prompt,
    tokenizer: Tokenizer,
    family: Family,
    target: Target,
    padding: Padding | None = None,
) -> Prompt:
    """Puts pad tokens in front of a prompt or behind it; none is taken away.

    Args:
        prompt: Without pad tokens.
        tokenizer: The model's.
        family: Its pad tokens.
        target: Says how far to pad on the right.
        padding: How far to pad instead, and on which side; None = not.
    """
    n = len(prompt.ids)
    pads = TokenColumns(tokenizer, family)
    if padding is not None and padding.side != RIGHT:
        pads.pad(padding.length(n) - n)
        return _padded_left(prompt, pads)
    position = target.pad_position
    if padding is not None:
        target = replace(target, pad_to=padding.length(n))
        # Where positions have three axes, transformers put all pad tokens at 1 when X2I was made.
        position = 1 if family.decoder.mrope else position
    pads.pad(target.padded_length(n) - n)
    last = turn_column(prompt.token_map)[-1]
    behind = new_map(pads.roles, turns=[last] * len(pads.ids))
    return replace(
        prompt,
        ids=(*prompt.ids, *pads.ids),
        token_map=join(prompt.token_map, behind),
        pad_position=position,
        weights=(*prompt.weights, *pads.weights),
    )


def _padded_left(prompt: Prompt, pads: TokenColumns) -> Prompt:
    left = len(pads.ids)
    if not left:
        return prompt
    return replace(
        prompt,
        ids=(*pads.ids, *prompt.ids),
        token_map=join(new_map(pads.roles), prompt.token_map),
        blocks=tuple(replace(block, start=block.start + left) for block in prompt.blocks),
        real=left + prompt.real,
        prefix=0,
        shared=(),
        dropped=left + prompt.dropped if prompt.dropped else 0,
        left=left,
        embeddings={place + left: vector for place, vector in prompt.embeddings.items()},
        weights=(*pads.weights, *prompt.weights),
    )
