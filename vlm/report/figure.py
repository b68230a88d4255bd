"""Panels laid out in rows on one figure, each with a caption; matplotlib loads on first use.

Places are computed in inches instead of left to a layout engine, so that a caption has the room it
needs whatever its length, and any number of panels fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .panels import GREY, INK, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, DPI = 16.0, 100  # inches; 1600 pixels
MOST_IN_ROW = 3
MARGIN, GAP = 0.3, 0.25  # around the figure, between panels
LEFT, RIGHT = 0.8, 0.3  # of a panel's axes: names and numbers of the axis
HEAD, FOOT = 0.62, 0.6  # title and legend above the axes; numbers and name of the axis below
HEADING, LINE = 0.5, 0.185  # the figure's title; a line of writing
AFTER, AIR = 0.3, 0.04  # below a caption, between its two parts
POINTS, NOTE, TITLE = 10, 11, 17  # of captions, of lines under the heading, of the heading


@dataclass(frozen=True)
class Panel:
    """One drawing with its words.

    Attributes:
        title: What it shows.
        here: What it shows of these tokens; in the text of the report too.
        good: What good looks like, for a person who has read no paper.
        draw: Draws it into matplotlib axes.
        height: Of the axes, in inches.
        right: Room right of the axes, in inches.
    """

    title: str
    here: str
    good: str
    draw: Callable[[Any], None]
    height: float = 3.3
    right: float = RIGHT


def in_rows(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Panels in as few rows as will do, the rows as even as may be, the fuller ones first."""
    count = -(-len(panels) // MOST_IN_ROW)
    rows, start = [], 0
    for left in range(count, 0, -1):
        stop = start + -(-(len(panels) - start) // left)
        rows.append(list(panels[start:stop]))
        start = stop
    return rows


def draw(title: str, notes: Sequence[str], rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """The picture of a report.

    Args:
        title: Heading.
        notes: Lines under it.
        rows: Panels from top to bottom.

    Returns:
        RGB, 1600 pixels wide, as high as the panels need.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The report is drawn by matplotlib, which is not installed here. Install what "
            "requirements.txt names: pip install matplotlib",
            name=error.name,
        ) from error
    with rc_context(STYLE):
        return _pixels(make_figure(title, notes, rows))


def save(picture: Image.Image, path: str | Path) -> None:
    """Writes a report's picture as PNG.

    Raises:
        FileNotFoundError: The folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} for the report does not exist.")
    picture.save(path, format="PNG")


def make_figure(title: str, notes: Sequence[str], rows: Sequence[Sequence[Panel]]) -> Figure:
    """The figure with everything on it; see `draw`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 1.0), dpi=DPI)
    wrap = _Wrap(FigureCanvasAgg(figure).get_renderer())
    notes = [line for note in notes for line in wrap(note, WIDTH - 2 * MARGIN, size=NOTE)]
    captions = [[_caption(panel, wrap, len(row)) for panel in row] for row in rows]
    heights = [
        HEAD + max(panel.height for panel in row) + FOOT + LINE * max(map(_lines, words)) + AFTER
        for row, words in zip(rows, captions, strict=True)
    ]
    top = MARGIN + HEADING + LINE * 1.2 * len(notes)
    total = top + sum(heights) + MARGIN
    figure.set_size_inches(WIDTH, total)
    page = _Page(figure, total)
    page.write(MARGIN, MARGIN, wrap.cut(title, WIDTH - 2 * MARGIN), TITLE, INK, "bold")
    for at, note in enumerate(notes):
        page.write(MARGIN, MARGIN + HEADING + LINE * 1.2 * at, note, NOTE, GREY)
    for row, words, height in zip(rows, captions, heights, strict=True):
        _fill_row(page, row, words, top)
        top += height
    return figure


@dataclass
class _Page:
    """A figure measured in inches from its top left corner."""

    figure: Figure
    height: float

    def write(
        self, x: float, y: float, text: str, size: float, colour: str, weight: str = "normal"
    ) -> None:
        """A line or several, their top left corner at x, y."""
        place = (x / WIDTH, 1 - y / self.height)
        look = {"fontsize": size, "color": colour, "fontweight": weight, "linespacing": 1.25}
        self.figure.text(*place, text, ha="left", va="top", **look)

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        """Axes whose top left corner is at x, y."""
        bottom = 1 - (y + height) / self.height
        return self.figure.add_axes((x / WIDTH, bottom, width / WIDTH, height / self.height))


def _fill_row(
    page: _Page, row: Sequence[Panel], captions: Sequence[tuple[list[str], list[str]]], top: float
) -> None:
    """Draws the panels of a row side by side, their captions on one height."""
    cell, deepest = _cell(len(row)), max(panel.height for panel in row)
    for at, (panel, (here, good)) in enumerate(zip(row, captions, strict=True)):
        x, y = MARGIN + at * (cell + GAP) + LEFT, top + HEAD
        axes = page.axes(x, y, cell - LEFT - panel.right, panel.height)
        panel.draw(axes)
        axes.set_title(panel.title, pad=9 if axes.get_legend() is None else 28)
        y += deepest + FOOT
        page.write(x, y, "\n".join(here), POINTS, INK, "bold")
        page.write(x, y + LINE * len(here) + AIR, "\n".join(good), POINTS, GREY)


def _cell(count: int) -> float:
    """Width of one of so many panels in a row, in inches."""
    return (WIDTH - 2 * MARGIN - (count - 1) * GAP) / count


def axes_width(count: int, right: float = RIGHT) -> float:
    """Width of the axes of one of so many panels in a row, in inches."""
    return _cell(count) - LEFT - right


def _caption(panel: Panel, wrap: _Wrap, count: int) -> tuple[list[str], list[str]]:
    room = _cell(count) - LEFT - 0.1
    return wrap(panel.here, room, "bold"), wrap(panel.good, room)


def _lines(caption: tuple[list[str], list[str]]) -> int:
    return sum(map(len, caption))


class _Wrap:
    """Breaks a text into lines no wider than a number of inches."""

    def __init__(self, renderer: Any):
        self._renderer = renderer

    def __call__(
        self, text: str, room: float, weight: str = "normal", size: float = POINTS
    ) -> list[str]:
        lines: list[str] = []
        for word in text.split():
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self._width(longer, size, weight) <= room:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def cut(self, text: str, room: float) -> str:
        """The text as a heading, with dots in place of an end that has no room."""
        if self._width(text, TITLE, "bold") <= room:
            return text
        while text and self._width(text + "…", TITLE, "bold") > room:
            text = text[:-1]
        return text + "…"

    def _width(self, text: str, size: float, weight: str) -> float:
        from matplotlib.font_manager import FontProperties

        font = FontProperties(family=STYLE["font.family"], size=size, weight=weight)
        # Dollar signs of a file's name are no formula.
        return self._renderer.get_text_width_height_descent(text, font, False)[0] / DPI


def _pixels(figure: Figure) -> Image.Image:
    canvas: Any = figure.canvas
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy(), "RGB")
