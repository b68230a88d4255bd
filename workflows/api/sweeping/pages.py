"""What a sweep leaves beside its pictures: a labelled sheet, and an index page for the browser."""

from __future__ import annotations

import html
import importlib
import json
import sys
import types
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .axes import Run

LIBRARY = Path(__file__).resolve().parents[3] / "vlm"
PAGE = """\
<!doctype html>
<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 24px; color: #22262b; background: #fff; }}
table {{ border-spacing: 10px; }} th {{ font-weight: 600; text-align: left; max-width: 18em; }}
thead th {{ text-align: center; }} img {{ display: block; max-width: 320px; max-height: 320px; }}
pre {{ white-space: pre-wrap; background: #f3f4f6; padding: 12px; }}
</style></head><body>
<h1>{title}</h1>
<table><thead><tr><th></th>{columns}</tr></thead><tbody>
{rows}
</tbody></table>
<details><summary>Settings</summary><pre>{settings}</pre></details>
</body></html>
"""


@dataclass(frozen=True)
class Made:
    """A combination and the files of its pictures; none where they are not made yet."""

    run: Run
    files: Sequence[Path]


def write_index(path: Path, title: str, made: Sequence[Made], settings: dict[str, Any]) -> None:
    """A table of all pictures; each opens in full size. Whatever people wrote stays text."""
    columns = list(dict.fromkeys(each.run.column for each in made))
    cells = {(each.run.row, each.run.column): each.files for each in made}
    lines = []
    for row in dict.fromkeys(each.run.row for each in made):
        shown = "".join(f"<td>{_pictures(cells.get((row, name), ()))}</td>" for name in columns)
        lines.append(f"<tr><th>{html.escape(row)}</th>{shown}</tr>")
    page = PAGE.format(
        title=html.escape(title),
        columns="".join(f"<th>{html.escape(name)}</th>" for name in columns),
        rows="\n".join(lines),
        settings=html.escape(json.dumps(settings, indent=2, ensure_ascii=False)),
    )
    write_whole(path, page.encode("utf-8"))


def _pictures(files: Sequence[Path]) -> str:
    links = (urllib.parse.quote(file.name) for file in files)
    return "".join(f'<a href="{link}"><img src="{link}" loading="lazy"></a>' for link in links)


def write_sheet(path: Path, title: str, made: Sequence[Made]) -> str:
    """The sheet that the node Contact Sheet draws, of the pictures that are there.

    Returns:
        Why there is none, in a sentence; "" where there is one.
    """
    try:
        from PIL import Image

        drawing = _contact_sheet()
    except ImportError as error:
        return f"No sheet: {error}. Install Pillow, or run this with ComfyUI's Python."
    there = [each for each in made if each.files]
    try:
        pictures = [
            drawing.side_by_side([Image.open(file).convert("RGB") for file in each.files])
            for each in there
        ]
        labels = [_label(each.run, drawing.SEPARATOR) for each in there]
        drawing.contact_sheet(pictures, labels if any(labels) else (), title).save(path)
    except (OSError, ValueError) as error:
        return f"No sheet: {error}"
    return ""


def _label(run: Run, separator: str) -> str:
    return separator.join(part for part in (run.column, run.row) if part)


def _contact_sheet() -> Any:
    """The pack's own drawing."""
    return of_library("report", "contact_sheet")


def write_whole(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all, whenever the script is killed."""
    of_library("files", "whole_file").write_whole(path, data)


def of_library(folder: str, module: str) -> Any:
    """A module of the pack's library, without the rest of it: that would need torch."""
    name = f"vlm_{folder}"
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [str(LIBRARY / folder)]
        sys.modules[name] = package
    return importlib.import_module(f"{name}.{module}")
