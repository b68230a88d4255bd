"""Draws the cards of workflows for the template browser: what goes in, is done, and comes out.

    python -m tools.cards

`tools/cards.json` has a line per workflow: what goes in, what it does in a few words, what comes
out. The band says the model. Readable at 200 pixels, where the browser shows it.
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

from vlm.report.writing import DOTS, Writing

from .card_icons import ICONS

REPO = Path(__file__).resolve().parents[1]
WORKFLOWS = REPO / "workflows"
WIDTH, HEIGHT = SIZE = 720, 480
BAND, MARGIN, GAP, TITLE, MODEL = 92, 32, 22, 56, 52
INK = "#1d2430"
# By the beginning of a workflow's name, or what stands in parentheses at its end.
MODELS = {
    "flux1": ("FLUX.1", "#3f5fa8"),
    "flux2-klein": ("FLUX.2 klein", "#2f7f86"),
    "flux3-klein": ("FLUX 3 klein", "#245f7d"),
    "krea2": ("Krea 2", "#7a4fa3"),
    "minimax-h3": ("MiniMax H3", "#a3433f"),
    "qwen-image-2.1": ("Qwen-Image 2.1", "#b0602a"),
    "qwen-image": ("Qwen-Image", "#96591f"),
    "z-image": ("Z-Image", "#2e7d55"),
}


def model_of(name: str) -> tuple[str, str]:
    """The title and colour of a workflow's model."""
    _, _, said = name.partition("(")
    for start, (title, colour) in MODELS.items():
        if name.startswith(f"{start}-") or said.startswith(title):
            return title, colour
    raise ValueError(f"{name} names no model that tools/cards.py knows: add it to MODELS.")


def cards() -> dict[str, list]:
    """What each workflow's card says."""
    return json.loads((REPO / "tools" / "cards.json").read_text(encoding="utf-8"))


def card(name: str) -> Image.Image:
    """The card of one workflow, 720 × 480."""
    given, does, made = cards()[name]
    title, colour = model_of(name)
    shown = Image.new("RGB", SIZE, _tint(colour))
    page = ImageDraw.Draw(shown)
    writing = Writing(TITLE, bold=True)
    lines = writing.wrap(does, WIDTH - 2 * MARGIN, 2)
    if lines[-1].endswith(DOTS):
        raise ValueError(f"The card of {name} has two lines, and `{does}` is longer: shorten it.")
    top = MARGIN - 12
    for line in lines:
        writing.draw(page, MARGIN, top, line, INK)
        top += writing.line
    _draw_way(page, given, made, 2 * writing.line + MARGIN, colour)
    page.rectangle((0, HEIGHT - BAND, WIDTH, HEIGHT), fill=colour)
    band = Writing(MODEL, bold=True)
    band.draw(page, MARGIN, HEIGHT - BAND + (BAND - band.line) // 2, title, "#ffffff")
    return shown


def _draw_way(
    page: ImageDraw.ImageDraw, given: list[str], made: list[str], top: float, colour: str
) -> None:
    """The icons of what goes in, an arrow, the icon of what comes out."""
    count = len(given) + len(made) + 1
    side = min(140, (WIDTH - 2 * MARGIN + GAP) / count - GAP)
    top += (140 - side) / 2
    x = (WIDTH - count * (side + GAP) + GAP) / 2
    for icon in given:
        ICONS[icon](page, x, top, side)
        x += side + GAP
    middle = top + side / 2
    page.line((x + 8, middle, x + side - 44, middle), fill=colour, width=18)
    head = [(x + side - 56, middle - 38), (x + side - 56, middle + 38), (x + side - 4, middle)]
    page.polygon(head, fill=colour)
    x += side + GAP
    for icon in made:
        ICONS[icon](page, x, top, side)
        x += side + GAP


def _tint(colour: str) -> tuple[int, ...]:
    """A light shade of a colour."""
    return tuple(round(255 - (255 - int(colour[i : i + 2], 16)) * 0.17) for i in (1, 3, 5))


def main() -> None:
    """Writes the .jpg of every workflow."""
    for name in cards():
        card(name).save(WORKFLOWS / f"{name}.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    main()
