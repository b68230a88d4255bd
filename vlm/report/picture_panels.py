"""Panels of the report about the sequence and its pictures."""

from __future__ import annotations

import torch

from .bars import draw_shares, name_of
from .curves import draw_norms
from .figure import Panel, axes_width
from .measures import NO_WORDS, Share, count_of, shares, short, text_similarity
from .panels import cell_shape, draw_grid, draw_roles
from .subject import Subject, View

BAR = 0.75  # inches beside a grid for the bar of its colours
TALLEST = 4.4  # inches of a picture
MOST_NAMED = 5


def sequence_panel(subject: Subject) -> Panel:
    """The sequence by role."""
    counts = ", ".join(f"{role} {count}" for role, count in subject.counts.items())
    here = f"{count_of(len(subject.rows))}: {counts}."
    states = subject.states
    if states is not None and states.dropped:
        here += f" {states.dropped} in front are left out, {states.target.title} never sees them."
    if not subject.known:
        here += " No token map came with them: what each token is, is not known."
    return Panel(
        f"The sequence by role: {count_of(len(subject.rows))}",
        here,
        "A token is a piece of a word or of a picture; the model reads them from left to right. "
        "Good: your own words stand as text and each picture as one long block of image. No text: "
        "a filter took your words out. Much unknown: a node in between lost track of the tokens.",
        lambda axes: draw_roles(axes, subject.roles, subject.counts),
        height=0.42,
    )


def view_panels(subject: Subject, view: View) -> list[Panel]:
    """The picture under its tokens, if it was given; their norms; their likeness to the text."""
    rows, cols = view.grid.shape
    there = view.grid[view.grid >= 0]
    words = any(role not in NO_WORDS for role in subject.roles)
    count = 1 + (view.picture is not None) + words
    width = axes_width(count, BAR)
    height = min(width * cell_shape(view.picture, rows, cols), TALLEST)
    missing = view.grid.numel() - len(there)
    panels = []
    if view.picture is not None:
        panels.append(_picture_panel(view, missing, height))
    panels.append(_norm_panel(subject, view, there, height))
    if words:
        panels.append(_likeness_panel(subject, view, there, height))
    return panels


def _picture_panel(view: View, missing: int, height: float) -> Panel:
    rows, cols = view.grid.shape
    here = f"{view.name}: {rows} rows of {cols} tokens"
    here += f", {missing} of {rows * cols} were filtered out (dark)." if missing else ", all there."
    if view.frames > 1:
        here += f" The video has {view.frames} frames of this grid; its first and last are shown."
    if view.thumbnail:
        here += f" Beside them {count_of(view.thumbnail)} of the whole picture, made small."
    return Panel(
        f"{view.name}: the picture and its tokens",
        here,
        "Each cell of the grid is one token. Good: what matters to you covers several cells. What "
        "is smaller than a cell is seen only roughly: allow more pixels when encoding.",
        lambda axes: draw_grid(axes, view.picture, view.grid),
        height,
        BAR,
    )


def _norm_panel(subject: Subject, view: View, there: torch.Tensor, height: float) -> Panel:
    norms, sinks = subject.norms[there], int(subject.sinks[there].sum())
    here = f"{view.name}: no tokens left."
    if len(norms):
        low, middle, high = (float(x) for x in (norms.min(), norms.median(), norms.max()))
        here = f"{view.name}: norm {short(low)} to {short(high)}, median {short(middle)}"
        here += f"; {count_of(sinks, 'sink')} (framed)." if sinks else "; no sink tokens."
    return Panel(
        f"{view.name}: how large each token is",
        here,
        "The norm is a token's length: how loud it speaks. Good: no cell is over 2 to 3 times its "
        "neighbours. Framed cells are sink tokens, over 5 times the median: they hold hardly "
        "anything of the picture, and normalising does well to leave them out.",
        lambda axes: draw_grid(axes, view.picture, view.grid, subject.norms, subject.sinks),
        height,
        BAR,
    )


def _likeness_panel(subject: Subject, view: View, there: torch.Tensor, height: float) -> Panel:
    likeness = text_similarity(subject.rows, subject.roles)
    here = f"{view.name}: no tokens left."
    if len(there):
        low, high = float(likeness[there].min()), float(likeness[there].max())
        here = f"{view.name}: cosine with the words {low:.2f} to {high:.2f}."
    return Panel(
        f"{view.name}: how like the words it is",
        here,
        "1 = points the same way as the mean of your words, 0 = has nothing to do with them. Good: "
        "what the words name stands out in yellow. All of one colour: the words point at no place. "
        "It is a hint, not what the model attends to.",
        lambda axes: draw_grid(axes, view.picture, view.grid, likeness),
        height,
        BAR,
    )


def norms_panel(subject: Subject) -> Panel:
    """The norm of every token along the sequence."""
    norms, sinks = subject.norms, subject.sinks.nonzero().flatten().tolist()
    median = float(norms.median())
    low, high = short(float(norms.min())), short(float(norms.max()))
    here = f"Norms {low} to {high}, median {short(median)}."
    if sinks:
        named = "; ".join(
            f"token {at} ({subject.roles[at].replace('_', ' ')}, {float(norms[at]) / median:.0f} "
            "times the median)"
            for at in sinks[:MOST_NAMED]
        )
        more = f" and {len(sinks) - MOST_NAMED} more" if len(sinks) > MOST_NAMED else ""
        here += f" Sink tokens: {named}{more}."
    else:
        here += " No sink tokens."
    silent = int((norms == 0).sum())
    if silent:
        them = "is zero: a mask silenced it" if silent == 1 else "are zero: a mask silenced them"
        here += f" {count_of(silent)} {them}."
    return Panel(
        "How large each token is (colours as in the strip)",
        here,
        "Good: words and pictures in one band, at about the same height. A picture far above the "
        "words drowns them when both are mixed: normalise it first. One or two ringed tokens, "
        "mostly at the very beginning, are usual in large models.",
        lambda axes: draw_norms(axes, norms, subject.roles, subject.sinks),
    )


def shares_panel(subject: Subject) -> Panel | None:
    """What each picture adds; None where there is no picture, or nothing beside a single one."""
    found = shares(subject.norms, subject.sinks, subject.token_map)
    if len(found) < 2 or not any(share.image >= 0 for share in found):
        return None
    named = "; ".join(map(_share_in_words, found[:MOST_NAMED]))
    more = f"; {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return Panel(
        "What each picture adds",
        f"{named[:1].upper()}{named[1:]}{more}.",
        "Grey: its share of the tokens. Coloured: its share of all norms added up, sink tokens "
        "left out. Good: both bars equally long, so that a picture counts by its tokens alone. A "
        "longer coloured bar speaks louder than its size, a shorter one softer. A picture with "
        "most of the tokens outweighs the others: pool it to fewer.",
        lambda axes: draw_shares(axes, found),
        height=max(1.4, min(3.3, 0.5 * len(found) + 0.8)),
    )


def _share_in_words(share: Share) -> str:
    return (
        f"{name_of(share)}: {count_of(share.tokens)} ({share.of_tokens:.0%}), "
        f"{share.of_norms:.0%} of the norms"
    )
