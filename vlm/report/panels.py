"""Look of the report, and its upper panels: the picture under its tokens, the sequence by role.

Colours are those of Okabe and Ito, and the map is cividis: both can be told apart with any kind of
colour vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from ..token_map import ROLES

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK, GREY, PALE = "#22262B", "#6B7280", "#D9DDE3"
COLOURS = {
    "system": "#8C7AA9",
    "template": "#A9B0BA",
    "vision_marker": INK,
    "image": BLUE,
    "audio_marker": GREY,
    "audio": ORANGE,
    "text": RED,
    "thinking": "#CC79A7",
    "generated": GREEN,
    "pad": "#E5E7EB",
    "unknown": "#F0E442",
}
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "figure.facecolor": "white",
}


def draw_grid(
    axes: Any,
    picture: Image.Image | None,
    grid: torch.Tensor,
    values: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
) -> None:
    """The picture with one cell per image token, coloured by a value.

    Args:
        axes: Where.
        picture: The picture; None = a plain ground.
        grid: [rows, columns] index of each cell's token, -1 = none: such cells are dark.
        values: [N] of all tokens; None = the picture itself under the lines of the grid.
        sinks: Bool [N]; their cells are framed.
    """
    rows, cols = grid.shape
    ground = Image.new("RGB", (cols, rows), PALE) if picture is None else picture
    place = {"extent": (0, cols, rows, 0), "aspect": _cell_aspect(ground, rows, cols)}
    shown = ground.convert("RGB" if values is None else "L")
    axes.imshow(shown, cmap="gray", interpolation="antialiased", vmin=0, vmax=255, **place)
    if values is not None and bool((grid >= 0).any()):
        _colour_cells(axes, grid, values, place)
    _mark_cells(axes, grid, sinks)
    axes.set_anchor("NW")
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    for axis, count in ((axes.xaxis, cols), (axes.yaxis, rows)):
        step = max(1, -(-count // 10))
        axis.set_ticks([i + 0.5 for i in range(0, count, step)], range(0, count, step))
        axis.set_ticks(range(count + 1), minor=True)
    axes.grid(False)
    axes.grid(which="minor", color="white", linewidth=0.6, alpha=0.55)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _colour_cells(axes: Any, grid: torch.Tensor, values: torch.Tensor, place: dict) -> None:
    """Cells over the grey picture, with a bar that says what the colours mean."""
    cells = values[grid.clamp(min=0)].double()
    cells[grid < 0] = float("nan")
    known, limits = values[grid[grid >= 0]], {}
    if len(known) > 20:  # one sink token must not make all others one colour
        low, high = known.quantile(torch.tensor([0.02, 0.98])).tolist()
        limits = {"vmin": low, "vmax": high} if high > low else {}
    look = {"cmap": "cividis", "alpha": 0.78, "interpolation": "nearest"}
    shades = axes.imshow(cells.numpy(), **look, **limits, **place)
    ends = "both" if limits else "neither"
    beside = axes.inset_axes((1.025, 0.0, 0.032, 1.0))
    bar = axes.figure.colorbar(shades, cax=beside, extend=ends)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)


def _mark_cells(axes: Any, grid: torch.Tensor, sinks: torch.Tensor | None) -> None:
    """Dark where a token is missing, a frame around sink tokens."""
    from matplotlib.patches import Rectangle

    for row, col in (grid < 0).nonzero().tolist():
        axes.add_patch(Rectangle((col, row), 1, 1, color=INK, alpha=0.72, linewidth=0))
    if sinks is not None:
        for row, col in ((grid >= 0) & sinks[grid.clamp(min=0)]).nonzero().tolist():
            frame = Rectangle((col, row), 1, 1, fill=False, edgecolor=RED, linewidth=2.2, zorder=4)
            axes.add_patch(frame)


def cell_shape(picture: Image.Image | None, rows: int, cols: int) -> float:
    """Height of the drawn grid by its width: the picture's, but not beyond 1 to 3."""
    whole = rows / cols if picture is None else picture.height / picture.width
    return min(max(whole, 1 / 3), 1.4)


def _cell_aspect(picture: Image.Image, rows: int, cols: int) -> float:
    """Height of a cell by its width, so that the picture keeps its shape."""
    return cell_shape(picture, rows, cols) * cols / rows


def draw_roles(axes: Any, roles: Sequence[str], counts: dict[str, int]) -> None:
    """The sequence as a strip, coloured by role, with the number of tokens of each.

    Args:
        axes: Where.
        roles: Of the N tokens.
        counts: Tokens by role.
    """
    from matplotlib.patches import Patch

    n, start = len(roles), 0
    for at in range(1, n + 1):
        if at == n or roles[at] != roles[start]:
            axes.axvspan(start, at, color=COLOURS[roles[start]], linewidth=0)
            start = at
    handles = [
        Patch(color=COLOURS[role], label=f"{role.replace('_', ' ')}  {counts[role]}")
        for role in ROLES
        if role in counts
    ]
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.005, 1.0),
        ncols=len(handles),
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.6,
        borderaxespad=0.15,
    )
    axes.set_xlim(0, n)
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("token")
