"""Cases: what results are measured against, a prompt, references, or both, under one name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import need_path
from ..files.inside import is_inside
from ..files.json_lines import lines_of, object_of
from ..files.names import is_file_name
from ..pictures.media_files import PICTURES, natural_order, read_text
from ..quoted import told

WORDS = ".txt"
EXAMPLE = '{"name": "boat", "prompt": "a boat at dusk", "reference": "boat.png"}'
# `seeds` is what the script that makes the results reads.
KEYS = ("name", "prompt", "reference", "seeds")
LONGEST_PROMPT = 100_000  # characters


@dataclass(frozen=True)
class Case:
    """One thing to make a picture of.

    Attributes:
        name: Its results' files begin with it.
        prompt: The words; "" = none.
        references: Pictures that results should be like.
    """

    name: str
    prompt: str = ""
    references: tuple[Path, ...] = ()


def read_cases(file: str | Path, root: str | Path | None = None) -> list[Case]:
    """The cases of a JSON Lines file.

    A line is an object with `name`, and `prompt`, `reference` (a file or a list of files) or both.
    Relative paths start at the file's folder.

    Args:
        file: UTF-8.
        root: The folder that references must lie in; None = the file's own.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No case in it, or a line that is no JSON, has an unknown key, a bad value, a
            reference outside `root`, or a name that was there before; names the line.
    """
    path = Path(file)
    need_path(path, "cases")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of cases {path}. Name one that exists.")
    inside = path.parent if root is None else Path(root)
    cases: dict[str, Case] = {}
    for number, line in lines_of(path):
        try:
            case = _case(object_of(line, EXAMPLE), path.parent, inside)
            if case.name.casefold() in cases:
                raise ValueError(f"name {told(case.name)} was there before. Give each its own.")
        except ValueError as error:
            raise ValueError(f"Line {number} of {path.name}: {error}") from error
        cases[case.name.casefold()] = case
    if not cases:
        raise ValueError(f"{path.name} holds no case. Write one a line, such as {EXAMPLE}.")
    return list(cases.values())


def list_cases(
    references: str | Path | None, prompts: str | Path | None
) -> tuple[list[Case], list[str]]:
    """Cases from a folder of pictures, a folder of text files, or both, paired by their names.

    Args:
        references: `boat.png` is the reference of the case `boat`; None = there are none.
        prompts: `boat.txt` holds its prompt; None = there are none.

    Returns:
        The cases, in natural order (9 before 10), and a line about each thing left out.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: Neither is given, or there is nothing in them.
    """
    notes: list[str] = []
    pictures = _by_stem(references, PICTURES, "references", notes)
    files = _by_stem(prompts, (WORDS,), "prompts", notes)
    words: dict[str, str] = {}
    for stem, file in files.items():
        try:
            words[stem] = read_text(str(file)).strip()
        except (ValueError, OSError) as error:
            notes.append(f"prompts: {file.name} is left out: {error}")
    if pictures and words:
        for what, ours, others in (("prompt", pictures, words), ("reference", words, pictures)):
            lone = [stem for stem in ours if stem not in others]
            if lone:
                notes.append(f"without a {what}: {some(lone)}")
    names = sorted({**pictures, **words}, key=lambda name: natural_order(Path(name)))
    if not names:
        raise ValueError(
            "There is nothing to measure results against. Name a folder of references or of "
            f"prompts (boat.png, boat{WORDS}), or a file of cases."
        )
    cases = [
        Case(name, words.get(name, ""), (pictures[name],) if name in pictures else ())
        for name in names
    ]
    return cases, notes


def some(names: list[str], most: int = 5) -> str:
    """A few names of many, and how many the others are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def ordinary_files(folder: Path) -> list[Path]:
    """Files that a person put into a folder, in natural order; hidden ones are the system's."""
    files = [each for each in folder.iterdir() if each.name[:1] != "." and each.is_file()]
    return sorted(files, key=natural_order)


def _case(given: Mapping[str, Any], place: Path, inside: Path) -> Case:
    for key in given:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"{told(key)} is no key of a case, {', '.join(KEYS)} are.{hint}")
    name, prompt = given.get("name"), given.get("prompt") or ""
    if not isinstance(name, str) or not is_file_name(name):
        raise ValueError(f"name is {told(name)}, expected what a file can be called: boat")
    if not isinstance(prompt, str) or len(prompt) > LONGEST_PROMPT:
        raise ValueError(f"prompt is {told(prompt)}, expected up to {LONGEST_PROMPT} letters.")
    named = given.get("reference") or ()
    files = (named,) if isinstance(named, str) else named
    if not isinstance(files, list | tuple) or not all(isinstance(each, str) for each in files):
        raise ValueError(f"reference is {told(named)}, expected a file or a list of files.")
    need_path(list(files), "reference")
    for file in files:
        if not is_inside(place / file, inside):
            raise ValueError(
                f"reference is {told(file)}, which lies outside of {inside}. Name a file inside, "
                "or a folder around all of them with --root."
            )
    if not prompt.strip() and not files:
        raise ValueError("there is neither prompt nor reference. Give one of them, or both.")
    return Case(name, prompt.strip(), tuple(place / file for file in files))


def _by_stem(
    folder: str | Path | None, endings: tuple[str, ...], what: str, notes: list[str]
) -> dict[str, Path]:
    """Files of a folder by their names without the ending, and a line about the others."""
    if folder is None:
        return {}
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"There is no folder {place} ({what}). Name one that exists.")
    found: dict[str, Path] = {}
    left: list[str] = []
    for file in ordinary_files(place):
        if file.suffix.lower() not in endings or file.stem in found:
            left.append(file.name)
        else:
            found[file.stem] = file
    if left:
        notes.append(f"{what}: left out, of another kind or there twice: {some(left)}")
    return found
