"""Recipes as TOML files, and those that are built in."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ..arguments import MOST, need_path
from ..quoted import reason, told
from .built_in import BUILT_IN
from .recipe import CHOICES, TrainRecipe, keys, kind_of

try:
    import tomllib
except ImportError:  # Python 3.10: the extra `train` brings the same reader
    import tomli as tomllib

ENDING = ".toml"
LINE = 100  # characters of a comment


def read_recipe(place: str, changes: Mapping[str, Any] | None = None) -> TrainRecipe:
    """Reads a recipe.

    Args:
        place: A .toml file, or the name of a built-in recipe.
        changes: Keys that hold instead of the file's.

    Raises:
        FileNotFoundError: No such file and no such name; the nearest name is told.
        ValueError: No TOML, a key nobody knows (the nearest is told), a value of another kind or
            out of its range.
    """
    changes = dict(changes or {})
    if place in BUILT_IN:
        return replace(BUILT_IN[place].recipe, **_checked(changes, "The options"))
    need_path(place, "recipe")
    path = Path(place)
    if path.suffix != ENDING or not path.is_file():
        near, known = _nearest(place, BUILT_IN), ", ".join(BUILT_IN)
        raise FileNotFoundError(
            f"There is no recipe {told(place)}.{near} Name a {ENDING} file, or one of those built "
            f"in: {known}."
        )
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # a number can be too long as well
        raise ValueError(
            f"{path.name} is no TOML ({reason(error)}). Write one `key = value` a line, text in "
            "quotation marks."
        ) from error
    return TrainRecipe(**(_checked(given, path.name) | _checked(changes, "The options")))


def write_recipe(recipe: TrainRecipe, note: str = "") -> str:
    """A recipe as TOML, every key with what it means.

    Args:
        recipe: To write.
        note: Comment at the top.
    """
    lines = [f"# {line}" for line in textwrap.wrap(note, LINE - 2)]
    values = asdict(recipe)
    for group, own in groupby(keys(), key=lambda key: key.metadata["group"]):
        lines += ["", f"# --- {group} ---"]
        for key in own:
            choices = [each for each in CHOICES.get(key.name, ()) if each]
            text = key.metadata["help"] + (f": {', '.join(choices)}" if choices else "")
            lines += ["", *(f"# {line}" for line in textwrap.wrap(text, LINE - 2))]
            # JSON's texts, numbers, true and false are TOML's, too.
            lines.append(f"{key.name} = {json.dumps(values[key.name], ensure_ascii=False)}")
    return "\n".join(lines).lstrip() + "\n"


def built_in_recipe(name: str) -> str:
    """A built-in recipe as a commented TOML file.

    Raises:
        ValueError: Nobody knows it; the nearest name is told.
    """
    if name not in BUILT_IN:
        raise ValueError(
            f"There is no built-in recipe {told(name)}.{_nearest(name, BUILT_IN)} There are "
            f"{', '.join(BUILT_IN)}."
        )
    return write_recipe(BUILT_IN[name].recipe, BUILT_IN[name].note)


def _checked(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values of the kinds that their keys have; a whole number may stand for any number."""
    known = {key.name: kind_of(key) for key in keys()}
    checked = {}
    for name, value in given.items():
        if name not in known:
            raise ValueError(
                f"{where}: nobody knows the key {told(name)}.{_nearest(name, known)} "
                "`python -m vlm train --print-recipe tiny` prints them all."
            )
        kind = known[name]
        if kind is float and type(value) is int and abs(value) <= MOST:
            value = float(value)
        if type(value) is not kind:
            words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
            raise ValueError(f"{where}: {name} is {told(value)}, expected {words[kind]}.")
        checked[name] = value
    return checked


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    found = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {found[0]}?" if found else ""
