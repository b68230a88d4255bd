r"""Weights of words: `(word:1.3)`, nested as ComfyUI's parser nests them.

Parentheses alone weigh 1.1 times what stands around them, a number behind a colon weighs by
itself; `\(` and `\)` are letters. Source: ComfyUI comfy/sd1_clip.py (`token_weights`), read and
written anew on places in the text instead of pieces of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from ..quoted import told
from .templates import Piece

PLAIN = 1.1  # what parentheses without a number do
MOST = 100.0
DEEPEST = 100
Stretch = tuple[int, int, float]  # start, end, weight


def weigh_words(pieces: Sequence[Piece]) -> list[Piece]:
    """Typed words without the parentheses that weigh them, each stretch with its weight.

    Args:
        pieces: Of `render`; those of one turn are read as one text.

    Raises:
        ValueError: A weight beyond 100, NaN or Inf; parentheses nested too deep.
    """
    weighed = [[piece] for piece in pieces]
    typed = [n for n, piece in enumerate(pieces) if piece.role == "text" and not piece.special]
    for _, group in groupby(typed, lambda n: pieces[n].turn):
        numbers = list(group)
        stretches = list(weights_of("".join(pieces[n].text for n in numbers)))
        at = 0
        for n in numbers:
            weighed[n] = list(_cut(pieces[n], at, stretches))
            at += len(pieces[n].text)
    return [piece for each in weighed for piece in each]


def weights_of(text: str) -> Iterator[Stretch]:
    """The stretches of a text that are words, with the weight of each.

    Args:
        text: As typed, escapes included.

    Yields:
        (start, end, weight), ascending.

    Raises:
        ValueError: As for `weigh_words`.
    """
    if "(" not in text and ")" not in text:
        yield 0, len(text), 1.0
        return
    plain = text.replace("\\)", "\0\0").replace("\\(", "\0\0")  # letters at the same places
    yield from _weigh(plain, 0, len(plain), 1.0, 0)


def _weigh(text: str, start: int, end: int, weight: float, depth: int) -> Iterator[Stretch]:
    if depth > DEEPEST:
        raise ValueError(
            f"The prompt has parentheses nested more than {DEEPEST} deep. Write fewer, set "
            "`weights` to as native, or write letters of them: \\( and \\)."
        )
    for first, last in _items(text, start, end):
        if not (last - first >= 2 and text[first] == "(" and text[last - 1] == ")"):
            yield first, last, weight
            continue
        inner, stop, own = first + 1, last - 1, weight * PLAIN
        colon = text.rfind(":", inner, stop)
        if colon > inner and (number := _number(text[colon + 1 : stop])) is not None:
            own, stop = number, colon
        yield from _weigh(text, inner, stop, own, depth + 1)


def _items(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """What stands in parentheses of the first level, and what stands between."""
    level, begin = 0, start
    for at in range(start, end):
        if text[at] == "(":
            if not level and begin < at:
                yield begin, at
                begin = at
            level += 1
        elif text[at] == ")":
            level -= 1
            if not level:
                yield begin, at + 1
                begin = at + 1
    if begin < end:
        yield begin, end


def _number(text: str) -> float | None:
    """The weight that was typed; None = it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number) or abs(number) > MOST:
        raise ValueError(
            f"The prompt gives a word the weight {told(text)}, expected a number from {-MOST:g} to "
            f"{MOST:g}, such as 1.3."
        )
    return number


def _cut(piece: Piece, at: int, stretches: Sequence[Stretch]) -> Iterator[Piece]:
    """The parts of a piece, which begins at a place of the text, that are words."""
    for start, end, weight in stretches:
        text = piece.text[max(start - at, 0) : max(end - at, 0)]
        if text:
            yield replace(piece, text=text, weight=weight)
