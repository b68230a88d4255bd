"""Contact sheets of the best and the worst results, each beside its reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ..pictures.images import to_pictures
from ..pictures.media_files import read_picture
from ..report.contact_sheet import SEPARATOR, contact_sheet
from .evaluation import Evaluation
from .metrics import CLIP_I, CLIP_T, DINO, SSIM
from .results import Key

SIZE = 320  # pixels of a picture's longest side
RANKED_BY = (DINO, CLIP_I, CLIP_T, SSIM)  # the first that there is
REFERENCE = "reference"


def ranked(found: Evaluation, metric: str = "") -> tuple[list[Key], str]:
    """Cases and seeds from best to worst by the mean of all settings.

    Args:
        found: What was measured.
        metric: By which; "" = the first there is of DINO, CLIP-I, CLIP-T and SSIM.

    Returns:
        Those that every setting has, or all where there are none such; and the metric.

    Raises:
        ValueError: The metric was not measured.
    """
    metric = metric or next(each for each in RANKED_BY if each in found.metrics)
    rows: dict[Key, list[float]] = {}
    for values in found.values.values():
        for key, row in values.items():
            if metric in row:
                rows.setdefault(key, []).append(row[metric])
    if not rows:
        raise ValueError(f"{metric} was not measured, {', '.join(found.metrics)} were.")
    whole = {key: row for key, row in rows.items() if len(row) == len(found.settings)} or rows
    return sorted(whole, key=lambda key: (-sum(whole[key]) / len(whole[key]), key)), metric


def draw_sheet(found: Evaluation, keys: Sequence[Key], metric: str, title: str) -> Image.Image:
    """A row for each case and seed: its reference, and what every setting made.

    Args:
        found: What was measured.
        keys: As `ranked` gives them; at least one.
        metric: Whose numbers stand in the rows' headings.
        title: Above all.

    Returns:
        RGB.
    """
    with_reference = any(found.cases[case].references for case, _ in keys)
    columns = [REFERENCE] * with_reference + [each.name for each in found.settings]
    pictures, labels = [], []
    for case, seed in keys:
        files: list[Path | None] = [setting.files.get((case, seed)) for setting in found.settings]
        if with_reference:
            files.insert(0, next(iter(found.cases[case].references), None))
        pictures += [_picture(file) for file in files]
        heading = _heading(found, (case, seed), metric)
        labels += [f"{_plain(column)}{SEPARATOR}{heading}" for column in columns]
    return contact_sheet(pictures, labels, title, size=SIZE)


def _heading(found: Evaluation, key: Key, metric: str) -> str:
    rows = [found.values[setting.name].get(key, {}) for setting in found.settings]
    numbers = ", ".join(f"{row[metric]:.3f}" if metric in row else "none" for row in rows)
    name = f"{key[0]} (seed {key[1]})" if key[1] else key[0]
    return _plain(f"{name}: {numbers}")


def _plain(text: str) -> str:
    return text.replace(SEPARATOR, " ")


def _picture(file: Path | None) -> Image.Image:
    """A picture at the sheet's size; a crossed out ground where there is none to show."""
    try:
        picture = to_pictures([read_picture(file)])[0] if file else None
    except (ValueError, OSError):  # named in the notes
        picture = None
    if picture is None:
        picture = Image.new("RGB", (SIZE, SIZE), "#E5E7EB")
        pen = ImageDraw.Draw(picture)
        pen.line((0, 0, SIZE, SIZE), fill="#A9B0BA", width=2)
        pen.line((0, SIZE, SIZE, 0), fill="#A9B0BA", width=2)
    picture.thumbnail((SIZE, SIZE))
    return picture
