"""Icons of the workflows' cards, drawn from shapes: each fills a square of a side in pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import ImageDraw

Page = ImageDraw.ImageDraw
INK, PAPER, EDGE = "#1d2430", "#ffffff", "#49566b"
LINE = 6


def _at(x: float, y: float, side: float) -> Callable[..., list[tuple[float, float]]]:
    """Points of the unit square, on the page."""
    return lambda *points: [(x + side * a, y + side * b) for a, b in points]


def _frame(page: Page, x: float, y: float, side: float, fill: str = PAPER) -> None:
    page.rounded_rectangle(
        (x, y, x + side, y + side), side / 9, fill=fill, outline=EDGE, width=LINE
    )


def _scene(
    page: Page, x: float, y: float, side: float, sky: str, sun: str, far: str, near: str
) -> None:
    """A landscape in a frame."""
    _frame(page, x, y, side, sky)
    at, r = _at(x, y, side), 0.13
    page.ellipse([at((0.7 - r, 0.3 - r))[0], at((0.7 + r, 0.3 + r))[0]], fill=sun)
    page.polygon(at((0.05, 0.8), (0.36, 0.36), (0.7, 0.8)), fill=far)
    page.polygon(at((0.4, 0.8), (0.68, 0.52), (0.95, 0.8)), fill=near)
    page.rounded_rectangle([at((0.03, 0.77))[0], at((0.97, 0.97))[0]], side / 14, fill=near)
    page.rounded_rectangle((x, y, x + side, y + side), side / 9, outline=EDGE, width=LINE)


def picture(page: Page, x: float, y: float, side: float) -> None:
    """A picture."""
    _scene(page, x, y, side, "#bfe0ff", "#ffd45e", "#6a93b8", "#4d9a5f")


def other(page: Page, x: float, y: float, side: float) -> None:
    """A second picture, of another look."""
    _scene(page, x, y, side, "#3b2f5c", "#f3ecff", "#a0568f", "#d9796b")


def result(page: Page, x: float, y: float, side: float) -> None:
    """A picture that was made."""
    _scene(page, x, y, side, "#ffe0c2", "#ff7a4d", "#8a6fae", "#2f7f86")


def results(page: Page, x: float, y: float, side: float) -> None:
    """Four pictures on a sheet."""
    half = side * 0.47
    for i, draw in enumerate((result, other, picture, result)):
        draw(page, x + (i % 2) * (side - half), y + (i // 2) * (side - half), half)


def words(page: Page, x: float, y: float, side: float) -> None:
    """Lines of writing."""
    _frame(page, x, y, side)
    at = _at(x, y, side)
    for row, length in enumerate((0.84, 0.7, 0.8, 0.5)):
        level = 0.23 + 0.18 * row
        page.line(at((0.16, level), (length, level)), fill=INK, width=round(side / 13))


def lines(page: Page, x: float, y: float, side: float) -> None:
    """The outlines of a picture."""
    _frame(page, x, y, side, INK)
    at, r = _at(x, y, side), 0.13
    page.ellipse([at((0.7 - r, 0.3 - r))[0], at((0.7 + r, 0.3 + r))[0]], outline=PAPER, width=LINE)
    page.line(at((0.06, 0.8), (0.36, 0.36), (0.66, 0.8)), fill=PAPER, width=LINE)
    page.line(at((0.52, 0.66), (0.68, 0.52), (0.94, 0.8)), fill=PAPER, width=LINE)


def film(page: Page, x: float, y: float, side: float) -> None:
    """A piece of film."""
    _frame(page, x, y, side, INK)
    at = _at(x, y, side)
    for k in range(5):
        for level in (0.06, 0.83):
            left = 0.08 + 0.175 * k
            page.rectangle([at((left, level))[0], at((left + 0.1, level + 0.1))[0]], fill=PAPER)
    page.rectangle([at((0.06, 0.24))[0], at((0.94, 0.76))[0]], fill="#bfe0ff")
    page.polygon(at((0.4, 0.32), (0.4, 0.68), (0.7, 0.5)), fill="#a3433f")


def sound(page: Page, x: float, y: float, side: float) -> None:
    """A sound's wave."""
    _frame(page, x, y, side, "#fbeed9")
    at = _at(x, y, side)
    for k, height in enumerate((0.12, 0.3, 0.52, 0.7, 0.44, 0.6, 0.26, 0.14)):
        left = 0.12 + 0.1 * k
        box = [at((left, 0.5 - height / 2))[0], at((left + 0.055, 0.5 + height / 2))[0]]
        page.rounded_rectangle(box, side / 40, fill="#c0702a")


def talk(page: Page, x: float, y: float, side: float) -> None:
    """Two speech bubbles."""
    at = _at(x, y, side)
    for (left, top, right, bottom), tip, fill in (
        ((0, 0.02, 0.76, 0.5), ((0.14, 0.46), (0.34, 0.46), (0.14, 0.66)), PAPER),
        ((0.26, 0.5, 1, 0.88), ((0.68, 0.84), (0.86, 0.84), (0.88, 1)), "#cfe3d6"),
    ):
        page.polygon(at(*tip), fill=EDGE)
        box = [at((left, top))[0], at((right, bottom))[0]]
        page.rounded_rectangle(box, side / 8, fill=fill, outline=EDGE, width=LINE)
        for k in range(3):
            cx, cy = left + (right - left) * (0.28 + 0.22 * k), (top + bottom) / 2
            page.ellipse([at((cx - 0.04, cy - 0.04))[0], at((cx + 0.04, cy + 0.04))[0]], fill=INK)


def dot(page: Page, x: float, y: float, side: float) -> None:
    """A spot of a picture."""
    picture(page, x, y, side)
    at = _at(x, y, side)
    for r, width in ((0.3, LINE), (0.17, LINE)):
        box = [at((0.36 - r, 0.6 - r))[0], at((0.36 + r, 0.6 + r))[0]]
        page.ellipse(box, outline="#d6273a", width=width + 3)
    page.ellipse([at((0.3, 0.54))[0], at((0.42, 0.66))[0]], fill="#d6273a")


def grid(page: Page, x: float, y: float, side: float) -> None:
    """Tokens in a grid."""
    _frame(page, x, y, side)
    shades = ("#bfe0ff", "#6a93b8", "#4d9a5f", "#ffd45e")
    cell = (side - 2 * LINE) / 4
    for k in range(16):
        left, top = x + LINE + (k % 4) * cell, y + LINE + (k // 4) * cell
        page.rectangle((left + 4, top + 4, left + cell - 4, top + cell - 4), fill=shades[k * 7 % 4])


def layers(page: Page, x: float, y: float, side: float) -> None:
    """A stack of layers."""
    at = _at(x, y, side)
    for k, fill in enumerate(("#2e7d55", "#6fae8a", "#a9d1b8", PAPER)):
        level = 0.7 - 0.17 * k
        shape = at((0.5, level - 0.2), (1, level), (0.5, level + 0.2), (0, level))
        page.polygon(shape, fill=fill)
        page.line([*shape, shape[0]], fill=EDGE, width=LINE, joint="curve")


def sliders(page: Page, x: float, y: float, side: float) -> None:
    """Sliders."""
    _frame(page, x, y, side)
    at = _at(x, y, side)
    for k, place in enumerate((0.7, 0.35, 0.55)):
        level = 0.24 + 0.26 * k
        page.line(at((0.14, level), (0.86, level)), fill=EDGE, width=LINE)
        box = [at((place - 0.09, level - 0.09))[0], at((place + 0.09, level + 0.09))[0]]
        page.ellipse(box, fill="#d6273a", outline=PAPER, width=3)


def clock(page: Page, x: float, y: float, side: float) -> None:
    """A clock."""
    page.ellipse((x, y, x + side, y + side), fill=PAPER, outline=EDGE, width=LINE + 2)
    at = _at(x, y, side)
    page.pieslice([at((0.1, 0.1))[0], at((0.9, 0.9))[0]], -90, 20, fill="#ffd45e")
    for k in range(12):
        turn = math.tau * k / 12
        inner, outer = ((0.5 + r * math.sin(turn), 0.5 - r * math.cos(turn)) for r in (0.38, 0.43))
        page.line(at(inner, outer), fill=INK, width=4)
    page.line(at((0.5, 0.2), (0.5, 0.5), (0.74, 0.6)), fill=INK, width=LINE + 2, joint="curve")


def file(page: Page, x: float, y: float, side: float) -> None:
    """A file."""
    at = _at(x, y, side)
    shape: Sequence[tuple[float, float]] = at(
        (0.15, 0), (0.62, 0), (0.86, 0.25), (0.86, 1), (0.15, 1)
    )
    page.polygon(shape, fill=PAPER)
    page.line([*shape, shape[0]], fill=EDGE, width=LINE, joint="curve")
    page.polygon(at((0.62, 0), (0.62, 0.25), (0.86, 0.25)), fill="#c9d3e0", outline=EDGE)
    for level in (0.45, 0.62, 0.79):
        page.line(at((0.28, level), (0.73, level)), fill=EDGE, width=LINE + 2)


def chart(page: Page, x: float, y: float, side: float) -> None:
    """Bars of a chart."""
    _frame(page, x, y, side)
    at = _at(x, y, side)
    for k, (height, fill) in enumerate(
        ((0.35, "#6a93b8"), (0.62, "#4d9a5f"), (0.48, "#ffb84d"), (0.74, "#d6273a"))
    ):
        left = 0.13 + 0.19 * k
        page.rectangle([at((left, 0.88 - height))[0], at((left + 0.13, 0.88))[0]], fill=fill)


ICONS = {
    draw.__name__: draw
    for draw in (
        picture, other, result, results, words, lines, film, sound, talk, dot, grid, layers,
        sliders, clock, file, chart,
    )
}  # fmt: skip
