"""A report on one encoding as a PNG: where tokens lie, how large they are, what normalising did.

Panels: the picture under its token grid, then coloured by the norm of each token and by its cosine
similarity with the text; the sequence by role; norms layer by layer; per dimension, std and mean
against the reference before and after normalising.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ..running.hidden_states import HiddenStates
from ..tokens.stats import Stats
from ..tokens.tokens import Tokens
from . import curves, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES, DPI = (16.0, 10.8), 100  # 1600 pixels wide


def make_report(
    path: str | Path,
    picture: Image.Image,
    states: HiddenStates,
    before: Tokens,
    after: Tokens,
    stats: Stats,
    *,
    layer: int,
    mode: str,
    image: int = 0,
    reference: HiddenStates | None = None,
    title: str = "",
) -> None:
    """Draws the report; nothing is run but the layer named, if it is not held.

    Args:
        path: PNG to write, in a folder that exists.
        picture: what image number `image` shows, of any size.
        states: hidden states of the prompt with the picture; the layers they hold are drawn.
        before: tokens of that layer that were normalised, ``[1, N, D]``, with their map.
        after: the same tokens normalised, ``[1, N, D]``.
        stats: the reference they were normalised against, of width D.
        layer: layer index that the tokens come from, in -L..L-1.
        mode: normalisation mode, for the heading.
        image: image number from 0.
        reference: hidden states of the text alone, drawn among the norms; None = left out.
        title: heading, such as the model's and the target's name.

    Raises:
        ValueError: no such layer or picture, or tokens and statistics of different shapes.
        FileNotFoundError: the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} for the report does not exist.")
    _check(before, after, stats)
    grid = picture_grid(states.token_map, image)
    from matplotlib import rc_context

    with rc_context(panels.STYLE):
        figure = _figure(title, layer, states, mode)
        _fill(figure, picture, states, grid, (before, after), stats, layer, reference)
        figure.savefig(path, dpi=DPI, format="png")


def picture_grid(token_map: dict, image: int = 0) -> torch.Tensor:
    """Where the tokens of a picture stand in the sequence: int64 [rows, columns], origin 0.

    Of a video, the first frame. Cells whose token was filtered out are -1.

    Raises:
        ValueError: there is no such picture.
    """
    sizes = {grid["image"]: (grid["rows"], grid["cols"]) for grid in token_map["grids"]}
    if image not in sizes:
        have = ", ".join(map(str, sorted(sizes))) or "none"
        raise ValueError(
            f"The report is about image {image}, and the prompt has these: {have}. "
            "Encode with at least one picture, or name another image number."
        )
    grid = torch.full(sizes[image], -1)
    columns = (token_map[key] for key in ("role", "image", "frame", "tile", "row", "col"))
    for at, (role, number, frame, tile, row, col) in enumerate(zip(*columns, strict=True)):
        if role == "image" and number == image and not frame and tile >= 0:
            grid[row, col] = at
    return grid


def text_similarity(states: torch.Tensor, roles: list[str]) -> torch.Tensor:
    """Cosine similarity of every token with the mean typed token.

    The mean of all tokens is taken off first: what all tokens share makes every cosine near 1.

    Args:
        states: [N, D] float32.
        roles: of the N tokens; without typed ones all text around the pictures stands in.

    Returns:
        [N] in -1..1.
    """
    picked = [role == "text" for role in roles]
    if not any(picked):
        picked = [role not in ("image", "vision_marker", "pad") for role in roles]
    if not any(picked):
        return torch.zeros(len(states))
    centred = states - states.mean(dim=0)
    words = centred[torch.tensor(picked)].mean(dim=0)
    return torch.nn.functional.cosine_similarity(centred, words[None], dim=1)


def layer_norms(states: HiddenStates) -> tuple[list[int], dict[str, torch.Tensor]]:
    """Norms of image and text tokens in every layer held, before the final norm.

    Args:
        states: hidden states.

    Returns:
        The layers, and per kind (`image`, `text`) the 10th, 50th and 90th percentile over its
        tokens, [layers, 3] float32; a kind without tokens is left out.
    """
    roles = states.token_map["role"]
    kinds = {
        "image": [role == "image" for role in roles],
        "text": [role not in ("image", "vision_marker", "pad") for role in roles],
    }
    at = torch.tensor([0.1, 0.5, 0.9])
    rows: dict[str, list[torch.Tensor]] = {kind: [] for kind, mask in kinds.items() if any(mask)}
    for held in states.held:
        norms = states.layer(held, final_norm=False)[0].float().norm(dim=1)
        for kind in rows:
            rows[kind].append(norms[torch.tensor(kinds[kind])].quantile(at.to(norms.device)).cpu())
    return list(states.held), {kind: torch.stack(row) for kind, row in rows.items()}


def _check(before: Tokens, after: Tokens, stats: Stats) -> None:
    if before.states.shape != after.states.shape:
        raise ValueError(
            f"The report compares the same tokens before and after normalising; these are "
            f"{list(before.states.shape)} and {list(after.states.shape)}. Filter before both."
        )
    if stats.width != before.width:
        raise ValueError(
            f"The reference is {stats.width} wide, these tokens are {before.width} wide. Take "
            "both from the same kind of encoder and the same choice of layers."
        )
    if before.n < 2:
        raise ValueError("The report shows a spread over tokens and needs at least 2 of them.")


def _figure(title: str, layer: int, states: HiddenStates, mode: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = ConstrainedLayoutEngine(w_pad=0.18, h_pad=0.14, wspace=0.03, hspace=0.04)
    figure = Figure(figsize=INCHES, dpi=DPI, layout=engine)
    origin = layer % states.num_layers
    name = f"layer {layer}" + (f" ({origin} of {states.num_layers - 1})" if layer < 0 else "")
    heading = "  ·  ".join(part for part in (title, name, f"normalised {mode}") if part)
    figure.suptitle(heading, x=0.012, ha="left", fontsize=17, fontweight="bold")
    return figure


def _fill(
    figure: Figure,
    picture: Image.Image,
    states: HiddenStates,
    grid: torch.Tensor,
    tokens: tuple[Tokens, Tokens],
    stats: Stats,
    layer: int,
    reference: HiddenStates | None,
) -> None:
    """Puts the panels in their places."""
    layout = figure.add_gridspec(3, 1, height_ratios=(1.0, 0.13, 1.2))
    top, strip = layout[0].subgridspec(1, 3), figure.add_subplot(layout[1])
    bottom = layout[2].subgridspec(1, 3)
    here = states.layer(layer)[0].float().cpu()
    token_map = states.token_map
    values = {
        "picture": None,
        "norm": here.norm(dim=1),
        "similarity": text_similarity(here, token_map["role"]),
    }
    for column, kind in enumerate(values):
        axes: Any = figure.add_subplot(top[column])
        panels.draw_grid(axes, picture, grid, values[kind], kind)
    panels.draw_roles(strip, token_map)
    curves.draw_layers(
        figure.add_subplot(bottom[0]),
        layer_norms(states),
        layer_norms(reference) if reference is not None else None,
        layer % states.num_layers,
    )
    before, after = (one.states.flatten(0, 1).float().cpu() for one in tokens)
    for column, kind in enumerate(("std", "mean"), start=1):
        axes = figure.add_subplot(bottom[column])
        curves.draw_dimensions(axes, before, after, stats, kind)
