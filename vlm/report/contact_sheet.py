"""Contact sheet: the pictures of a sweep on one page, with their labels.

Needs Pillow, and `writing.py` beside it; `workflows/api/sweep.py` draws its sheet with it too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .writing import Writing, one_line

SEPARATOR = " · "  # between the two values of a label
GROUND, INK = "white", "#22262B"
GAP, MARGIN, AIR = 12, 24, 4  # pixels between pictures, around all, from picture to label
IN_A_ROW = 6  # as many pictures without a table of their own make one row
MOST_PIXELS = 200_000_000
LINES_OF_LABEL, LINES_OF_TITLE = 3, 4


@dataclass(frozen=True)
class Table:
    """Labels of two values that fill a table.

    Attributes:
        columns, rows: Headings from left to right, from top to bottom.
    """

    columns: tuple[str, ...]
    rows: tuple[str, ...]


def find_table(labels: Sequence[str]) -> Table | None:
    """Rows and columns of labels `column · row` that come row by row; None where they do not."""
    parts = [tuple(label.split(SEPARATOR)) for label in labels]
    if not parts or any(len(part) != 2 for part in parts):
        return None
    columns, rows = (tuple(dict.fromkeys(side)) for side in zip(*parts, strict=True))
    whole = [(column, row) for row in rows for column in columns]
    return Table(columns, rows) if parts == whole else None


def contact_sheet(
    pictures: Sequence[Image.Image],
    labels: Sequence[str] = (),
    title: str = "",
    columns: int = 0,
    size: int = 512,
) -> Image.Image:
    """All pictures on one page.

    Labels of two values (`alpha 0.3 · layer -8`) that come row by row make a table with headings;
    any others stand under their pictures.

    Args:
        pictures: In the order of the labels; each keeps its shape.
        labels: One per picture, or none.
        title: Above all; "" = none.
        columns: Pictures in a row; 0 = the table's, or as even as may be.
        size: Longest side of a picture on the sheet in pixels, smaller ones stay as they are; 0 =
            all stay.

    Returns:
        RGB.

    Raises:
        ValueError: No picture, another number of labels, a size below 0, or a sheet over 200
            megapixels.
    """
    _check(pictures, labels, columns, size)
    shown = [_fitting(picture, size) for picture in pictures]
    cell = max(each.width for each in shown), max(each.height for each in shown)
    table = find_table(labels) if columns == 0 else None
    page = _Page(cell, labels, table, columns or _natural(len(shown), cell), title)
    return page.draw(shown)


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Several pictures as one, from left to right."""
    if len(pictures) == 1:
        return pictures[0]
    width = sum(each.width for each in pictures) + GAP // 2 * (len(pictures) - 1)
    whole = Image.new("RGB", (width, max(each.height for each in pictures)), GROUND)
    x = 0
    for each in pictures:
        whole.paste(each, (x, 0))
        x += each.width + GAP // 2
    return whole


class _Page:
    """Where everything stands, in pixels from the upper left corner."""

    def __init__(
        self,
        cell: tuple[int, int],
        labels: Sequence[str],
        table: Table | None,
        columns: int,
        title: str,
    ):
        self.cell, self.labels, self.table = cell, labels, table
        self.columns = columns if table is None else len(table.columns)
        letters = max(13, min(26, cell[0] // 20))
        self.writing, self.heading = Writing(letters), Writing(letters, bold=True)
        self.large = Writing(round(letters * 1.4), bold=True)
        self.left, self.captions, self.heads, self.sides = MARGIN, [], [], []
        if table is None:
            self.captions = [self._wrapped(self.writing, label, cell[0]) for label in labels]
        else:
            self.heads = [self._wrapped(self.heading, name, cell[0]) for name in table.columns]
            room = max(cell[0] * 0.6, 120)
            self.sides = [self._wrapped(self.heading, name, room) for name in table.rows]
            widest = max(self.heading.width(line) for lines in self.sides for line in lines)
            self.left += math.ceil(widest) + GAP
        self.width = self.left + self.columns * (cell[0] + GAP) - GAP + MARGIN
        named = one_line(title)
        room = self.width - 2 * MARGIN
        self.title = self.large.wrap(named, room, LINES_OF_TITLE) if named else []
        self.top = MARGIN + len(self.title) * self.large.line + (GAP if self.title else 0)
        if self.heads:
            self.top += max(map(len, self.heads)) * self.heading.line + AIR
        self.foot = max(map(len, self.captions), default=0) * self.writing.line
        self.foot += AIR if self.captions else 0

    @staticmethod
    def _wrapped(writing: Writing, text: str, room: float) -> list[str]:
        return writing.wrap(text, room, LINES_OF_LABEL)

    def draw(self, pictures: Sequence[Image.Image]) -> Image.Image:
        """The page with everything on it."""
        wide, high = self.cell
        rows = math.ceil(len(pictures) / self.columns)
        height = self.top + rows * (high + self.foot + GAP) - GAP + MARGIN
        if self.width * height > MOST_PIXELS:
            raise ValueError(
                f"The sheet would be {self.width} x {height} pixels, over 200 megapixels. Set "
                "size to a smaller number, such as 256."
            )
        sheet = Image.new("RGB", (self.width, height), GROUND)
        page = ImageDraw.Draw(sheet)
        self._lines(page, self.large, MARGIN, MARGIN, self.title)
        for at, lines in enumerate(self.heads):
            y = self.top - AIR - len(lines) * self.heading.line
            self._centred(page, self.heading, self.left + at * (wide + GAP), y, lines)
        for at, lines in enumerate(self.sides):
            tall = len(lines) * self.heading.line
            y = self.top + at * (high + self.foot + GAP) + (high - tall) // 2
            self._lines(page, self.heading, MARGIN, y, lines)
        for at, picture in enumerate(pictures):
            row, column = divmod(at, self.columns)
            x, y = self.left + column * (wide + GAP), self.top + row * (high + self.foot + GAP)
            sheet.paste(
                picture, (x + (wide - picture.width) // 2, y + (high - picture.height) // 2)
            )
            if self.captions:
                self._centred(page, self.writing, x, y + high + AIR, self.captions[at])
        return sheet

    def _centred(
        self, page: ImageDraw.ImageDraw, writing: Writing, x: int, y: int, lines: list[str]
    ) -> None:
        for at, line in enumerate(lines):
            inset = (self.cell[0] - writing.width(line)) / 2
            writing.draw(page, x + max(inset, 0), y + at * writing.line, line, INK)

    @staticmethod
    def _lines(
        page: ImageDraw.ImageDraw, writing: Writing, x: int, y: int, lines: list[str]
    ) -> None:
        for at, line in enumerate(lines):
            writing.draw(page, x, y + at * writing.line, line, INK)


def _check(pictures: Sequence[Image.Image], labels: Sequence[str], columns: int, size: int) -> None:
    if not pictures:
        raise ValueError("A contact sheet needs a picture, and there is none. Connect some.")
    if labels and len(labels) != len(pictures):
        raise ValueError(
            f"These are {len(pictures)} pictures and {len(labels)} labels. Take both from the same "
            "sweep, or leave the labels out."
        )
    if columns < 0 or size < 0:
        raise ValueError(f"columns and size are numbers from 0, these are {columns} and {size}.")


def _fitting(picture: Image.Image, size: int) -> Image.Image:
    picture = picture.convert("RGB")
    longest = max(picture.size)
    if not size or longest <= size:
        return picture
    wide, high = (max(1, round(side * size / longest)) for side in picture.size)
    return picture.resize((wide, high), Image.Resampling.LANCZOS)


def _natural(count: int, cell: tuple[int, int]) -> int:
    """Columns of a sheet without a table: few in one row, more on a page about as wide as high."""
    if count <= IN_A_ROW:
        return count
    across = math.sqrt(count * cell[1] / cell[0])
    return min(count, max(1, math.ceil(across)))
