"""Lines of writing on a picture, in fonts that have their letters.

DejaVu Sans, which matplotlib brings, has Latin, Greek, Cyrillic and more. Chinese, Japanese, Korean
and whatever else it lacks comes from a font of the machine that has it. Without matplotlib all is
written in Pillow's own font, which has Latin letters. Nothing else of the library is needed.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import ImageDraw, ImageFont

DOTS = "…"
# Fonts of a machine in which most writing of East Asia looks right, the likeliest first.
PREFERRED = (
    "Noto Sans CJK SC", "Source Han Sans SC", "Noto Sans SC", "PingFang SC", "Hiragino Sans",
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Apple SD Gothic Neo", "WenQuanYi Micro Hei",
    "Droid Sans Fallback", "Arial Unicode MS",
)  # fmt: skip
PLACEHOLDERS = "Last Resort"  # a font of matplotlib: boxes for everything


@dataclass(frozen=True)
class Face:
    """A font in a file; an empty path is Pillow's own."""

    path: str
    index: int = 0


class Writing:
    """Writing of one size and weight.

    Attributes:
        size: In pixels.
        line: Height of a line in pixels.
    """

    def __init__(self, size: int, bold: bool = False):
        """Takes the size in pixels."""
        self.size, self.line = size, round(size * 1.3)
        self._plain = _base(bold)

    def width(self, text: str) -> float:
        """Length of a line in pixels."""
        return sum(_font(face, self.size).getlength(run) for face, run in self._runs(text))

    def draw(self, page: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: str) -> None:
        """Writes a line whose upper left corner is at x, y."""
        base = y + round(self.size * 1.02)
        for face, run in self._runs(text):
            font = _font(face, self.size)
            page.text((x, base), run, fill=colour, font=font, anchor="ls")
            x += font.getlength(run)

    def wrap(self, text: str, room: float, most: int) -> list[str]:
        """Lines no wider than `room` pixels, at most so many; dots stand for what has no place."""
        lines: list[str] = []
        for word in one_line(text).split(" "):
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self.width(longer) <= room:
                lines[-1] = longer
                continue
            pieces = self._pieces(word, room)
            lines += pieces
        if len(lines) > most:
            lines = [*lines[: most - 1], lines[most - 1] + DOTS]
            while len(lines[-1]) > 1 and self.width(lines[-1]) > room:
                lines[-1] = lines[-1][:-2] + DOTS
        return lines

    def _pieces(self, word: str, room: float) -> list[str]:
        """A word in pieces that fit; Chinese and Japanese have no blanks to break at."""
        pieces = [""]
        for letter in word:
            if pieces[-1] and self.width(pieces[-1] + letter) > room:
                pieces.append("")
            pieces[-1] += letter
        return pieces

    def _runs(self, text: str) -> list[tuple[Face, str]]:
        """The text in pieces of one font each."""
        runs: list[tuple[Face, str]] = []
        for letter in text:
            # A sign that is put onto the letter before it stays in its font.
            joined = runs and unicodedata.combining(letter)
            face = runs[-1][0] if joined else _face_of(letter, self._plain)
            if runs and runs[-1][0] == face:
                runs[-1] = (face, runs[-1][1] + letter)
            else:
                runs.append((face, letter))
        return runs


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    shown = "".join(letter if unicodedata.category(letter)[0] != "C" else " " for letter in text)
    return " ".join(shown.split())


def missing_letters(text: str) -> str:
    """Letters of a text that no font of this machine has: boxes are drawn in their place."""
    plain = _base(False)
    letters = dict.fromkeys(one_line(text).replace(" ", ""))
    return "".join(one for one in letters if not _has(_face_of(one, plain), one))


def _manager() -> Any:
    """matplotlib's list of fonts; None without matplotlib."""
    try:
        from matplotlib import font_manager
    except ModuleNotFoundError:
        return None
    return font_manager


@cache
def _base(bold: bool) -> Face:
    fonts = _manager()
    if fonts is None:
        return Face("")
    style = fonts.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return Face(str(fonts.findfont(style)))


@cache
def _face_of(letter: str, plain: Face) -> Face:
    """The first font that has a letter; the plain one where none has."""
    if _has(plain, letter):
        return plain
    return next((face for face in _others() if _has(face, letter)), plain)


@cache
def _others() -> tuple[Face, ...]:
    """The machine's fonts, those first that are made for many letters."""
    fonts = _manager()
    if fonts is None:
        return ()
    rank = {name: at for at, name in enumerate(PREFERRED)}
    upright = [
        each
        for each in fonts.fontManager.ttflist
        if each.style == "normal" and not each.name.startswith(PLACEHOLDERS)
    ]
    upright.sort(key=lambda each: (rank.get(each.name, len(rank)), str(each.weight), each.name))
    return tuple(Face(each.fname, getattr(each, "index", 0)) for each in upright)


@cache
def _has(face: Face, letter: str) -> bool:
    if not face.path:
        return ord(letter) < 0x250  # Pillow's own font has the letters of Latin
    return ord(letter) in _letters(face)


@cache
def _letters(face: Face) -> frozenset[int]:
    """Code points that a font has; none where it cannot be opened."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(face.path, face_index=face.index) if face.index else FT2Font(face.path)
        return frozenset(font.get_charmap())
    except (OSError, RuntimeError, TypeError):  # damaged, or a kind that FreeType does not read
        return frozenset()


@cache
def _font(face: Face, size: int) -> Any:
    if not face.path:
        return ImageFont.load_default(size)
    return ImageFont.truetype(face.path, size, index=face.index)
