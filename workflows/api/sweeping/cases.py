"""What a gallery is made of: cases from a JSON Lines file, and settings from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pages import of_library
from .workflow import Prompt, SweepError, parse_value, set_place, set_values, set_words

# Inputs that hold the seed of a sampler.
SEEDS = {
    "seed": ("KSampler",),
    "noise_seed": ("KSamplerAdvanced", "SamplerCustom", "RandomNoise"),
}


@dataclass(frozen=True)
class Case:
    """A line of the file; `python -m vlm evaluate --cases` reads the same.

    Attributes:
        name: Its pictures' files begin with it.
        prompt: "" = the workflow's own.
        reference: Goes into Load Image; None = the workflow's own stays.
        seeds: () = those of the command line.
    """

    name: str
    prompt: str
    reference: Path | None
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Setting:
    """A way to make pictures: values of a workflow's inputs."""

    name: str
    values: tuple[tuple[str, Any], ...]


def read_cases(path: Path) -> list[Case]:
    """The cases of a file.

    Raises:
        SweepError: It cannot be read; a line is no case, or has a name that was there before.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise SweepError(f"{path} cannot be read as text in UTF-8: {error}") from None
    cases: dict[str, Case] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        case = _case(line, f"Line {number} of {path.name}", path.parent)
        if case.name.casefold() in cases:
            raise SweepError(f"Line {number} of {path.name}: {case.name} was there before.")
        cases[case.name.casefold()] = case
    if not cases:
        raise SweepError(f'{path} holds no case. Write one a line: {{"name": "a", "prompt": "b"}}')
    return list(cases.values())


def parse_setting(text: str) -> Setting:
    """Reads `NAME: NODE.INPUT=VALUE; NODE.INPUT=VALUE`; no values = the workflow as it is.

    Raises:
        SweepError: It is not written so.
    """
    name, _, rest = text.partition(":")
    name = name.strip()
    if not of_library("files", "names").is_file_name(name):
        raise SweepError(f"--setting {text}: {name!r} cannot be the name of a folder.")
    values = []
    for part in filter(str.strip, rest.split(";")):
        place, mark, value = part.partition("=")
        if not mark or "." not in place:
            raise SweepError(
                f"--setting {text}: write NAME: NODE.INPUT=VALUE, like a: VLMCAlphaBlend.alpha=0.3"
            )
        values.append((place.strip(), parse_value(value.strip())))
    return Setting(name, tuple(values))


def fill(prompt: Prompt, setting: Setting, case: Case, seed: int, picture: str | None) -> Prompt:
    """The workflow with everything of one picture in it.

    Args:
        prompt: As it was read; it stays as it is.
        setting: Its values go in first.
        case: Its words.
        seed: Of every sampler.
        picture: ComfyUI's name of the uploaded reference; None = there is none.

    Raises:
        SweepError: The workflow has no place for something.
    """
    filled = json.loads(json.dumps(prompt))
    for place, value in setting.values:
        set_place(filled, place, value)
    if case.prompt:
        set_words(filled, case.prompt)
    if picture is not None:
        set_values(filled, ("LoadImage",), "image", picture)
    kinds = {node["class_type"] for node in filled.values()}
    found = {name: kinds & set(of) for name, of in SEEDS.items() if kinds & set(of)}
    if not found:
        raise SweepError("The workflow has no KSampler or RandomNoise that a seed could go to.")
    for name, of in found.items():
        set_values(filled, sorted(of), name, seed)
    return filled


def _case(line: str, where: str, folder: Path) -> Case:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SweepError(f"{where} is not JSON: {error}") from None
    given = given if isinstance(given, dict) else {}
    name, prompt = given.get("name"), given.get("prompt") or ""
    named, seeds = given.get("reference") or (), given.get("seeds") or ()
    references = (named,) if isinstance(named, str) else named
    if not isinstance(name, str) or not of_library("files", "names").is_file_name(name):
        raise SweepError(f"{where} has no name that a file could have.")
    if not isinstance(prompt, str) or not _all(references, str) or not _all(seeds, int):
        raise SweepError(f"{where}: prompt is text, reference a file or files, seeds whole numbers")
    first = folder / references[0] if references else None
    if first is not None and not of_library("files", "inside").is_inside(first, folder):
        raise SweepError(f"{where}: {references[0]} lies outside of {folder}.")
    return Case(name, prompt, first, tuple(seeds))


def _all(values: Any, kind: type) -> bool:
    """Whether these are several of a kind; a truth value is no number."""
    return isinstance(values, Sequence) and all(type(value) is kind for value in values)
