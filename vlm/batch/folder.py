"""Jobs from a folder: one for each picture in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..logger import LOG
from ..pictures.media_files import PICTURES, natural_order
from .jobs import Job, Provenance, make_job, take
from .recipe import Recipe

WORDS = ".txt"
_MOST_NAMED = 5


def list_jobs(folder: str | Path, defaults: Recipe, maker: Provenance) -> list[Job]:
    """A job for each picture of a folder, in natural order (9 before 10), named after it.

    A text file of the same name beside a picture (`boat.png`, `boat.txt`) is its prompt, else
    `defaults.text`. Folders inside are left alone; other files are left out, with a line in the
    log that names some.

    Args:
        folder: The folder.
        defaults: The other options of every job.
        maker: What will encode them.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: No picture in it, two that differ only in their ending, a name that other
            systems refuse, or a prompt that is not UTF-8.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"There is no folder {place}. Name one that exists.")
    files = sorted(filter(_is_ours, place.iterdir()), key=natural_order)
    pictures = [file for file in files if file.suffix.lower() in PICTURES]
    if not pictures:
        raise ValueError(f"The folder {place} holds no picture ({', '.join(PICTURES)}).")
    # On a disk that knows capitals there can be b.TXT beside b.txt, which is then the one.
    words = {file.stem: file for file in reversed(files) if file.suffix.lower() == WORDS}
    words |= {file.stem: file for file in files if file.suffix == WORDS}
    jobs: list[Job] = []
    taken: dict[str, str] = {}
    for picture in pictures:
        given: dict[str, Any] = {"image": (picture.name,)}
        if picture.stem in words:
            given["text_file"] = words[picture.stem].name
        try:
            jobs.append(make_job(picture.stem, given, defaults, maker, place))
            take(picture.stem, picture.name, taken)
        except (ValueError, OSError) as error:
            raise ValueError(f"{picture.name}: {error}") from error
    read = {*pictures, *(words[picture.stem] for picture in pictures if picture.stem in words)}
    _tell_left_out(place, [file.name for file in files if file not in read])
    return jobs


def _is_ours(file: Path) -> bool:
    """Whether a person put it there, and not a system: hidden files are theirs."""
    return not file.name.startswith(".") and file.is_file()


def _tell_left_out(place: Path, names: list[str]) -> None:
    if names:
        some = ", ".join(names[:_MOST_NAMED]) + (", ..." if names[_MOST_NAMED:] else "")
        LOG.warning(
            "%d files of %s are left out: %s. Pictures end in %s, their words in .txt; convert the "
            "others first if they should be encoded.", len(names), place, some, ", ".join(PICTURES),
        )  # fmt: skip
