"""Results: pictures of a folder, each found to be a case's by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..pictures.media_files import PICTURES
from .cases import Case, ordinary_files, some

SEED = re.compile(r"(.+)_(?:seed)?([0-9]{1,20})")
Key = tuple[str, str]  # name of the case, seed ("" = the file has none)


@dataclass(frozen=True)
class Setting:
    """One way to make pictures: a setting, a connector, a model.

    Attributes:
        name: What tables call it.
        files: Its results; those of several settings under one key are compared.
    """

    name: str
    files: dict[Key, Path]


def find_results(name: str, folder: str | Path, cases: Sequence[Case]) -> tuple[Setting, list[str]]:
    """The results in a folder.

    `boat.png` is a result of the case `boat`, and so are `boat_7.png` and `boat_seed7.png`, of seed
    7, unless a case is called that itself.

    Args:
        name: Of the setting.
        folder: The folder; folders inside are left alone.
        cases: What the results may be of.

    Returns:
        The setting, and a line about what was left out and which cases have no result.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: No file in it is a result of any case.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"There is no folder {place} of results. Name one that exists.")
    known = {case.name.casefold(): case.name for case in cases}
    files: dict[Key, Path] = {}
    strange, twice = [], []
    for file in ordinary_files(place):
        key = _key(file.stem, known) if file.suffix.lower() in PICTURES else None
        if key is None:
            strange.append(file.name)
        elif key in files:
            twice.append(file.name)
        else:
            files[key] = file
    if not files:
        raise ValueError(
            f"No picture in {place} is called after a case. Call the results of {cases[0].name} "
            f"{cases[0].name}.png, or {cases[0].name}_7.png for seed 7."
            + (f" There are {some(strange)}." if strange else "")
        )
    made = {case for case, _ in files}
    missing = [case.name for case in cases if case.name not in made]
    lines = {
        "left out, called after no case or no picture": strange,
        "left out, the case and seed are there already": twice,
        "no result of": missing,
    }
    return Setting(name, files), [f"{name}: {k}: {some(v)}" for k, v in lines.items() if v]


def _key(stem: str, known: dict[str, str]) -> Key | None:
    if stem.casefold() in known:
        return known[stem.casefold()], ""
    parts = SEED.fullmatch(stem)
    if parts is None or parts[1].casefold() not in known:
        return None
    return known[parts[1].casefold()], str(int(parts[2]))
