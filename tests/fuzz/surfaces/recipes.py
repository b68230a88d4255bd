"""Recipes of `vlm train`, as TOML files and options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlm.train.built_in import BUILT_IN
from vlm.train.recipe import CHOICES, keys, kind_of
from vlm.train.recipe_file import read_recipe, write_recipe

from ..case import Case, Make, line_of
from ..draw import Draw, write_text


def prepare(base: Path) -> Make:
    """Nothing is shared."""

    def make(draw: Draw, room: Path) -> Case:
        start = BUILT_IN[draw.choice(list(BUILT_IN))].recipe
        text = write_recipe(start)
        for _ in range(draw.randint(1, 4)):
            text = _changed(draw, text)
        file = room / "recipe.toml"
        write_text(file, text)
        changes = {_name(draw): _value(draw) for _ in range(draw.one(0, 0, 1, 2))}

        def run() -> None:
            recipe = read_recipe(str(file), changes)
            write_text(file, write_recipe(recipe))
            if read_recipe(str(file)) != recipe:
                raise AssertionError("written and read again it is another recipe")
            recipe.need_places()

        return Case(line_of(changes, text[-300:]), run)

    return make


def _name(draw: Draw) -> str:
    return draw.choice(keys()).name if draw.chance(0.85) else draw.text()


def _value(draw: Draw) -> Any:
    return draw.one(draw.value(), draw.number(), draw.text(), *CHOICES["connector"])


def _changed(draw: Draw, text: str) -> str:
    """A key set otherwise, twice or unknown, a table, or damage."""
    kind = draw.random()
    name = _name(draw)
    if kind < 0.6:
        lines = [line for line in text.splitlines() if not line.startswith(f"{name} =")]
        kinds = {key.name: kind_of(key) for key in keys()}
        value = _value(draw)
        if name in kinds and draw.chance(0.7):
            value = {int: draw.whole, float: draw.number, bool: lambda: True, str: draw.text}[
                kinds[name]
            ]()
        written = json.dumps(value)
        written = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}.get(written, written)
        return "\n".join([*lines, f"{name} = {written}"])
    if kind < 0.7:
        return f"{text}\n[{name}]\na = 1"
    if kind < 0.8:
        value = draw.one("[" * 3000, "1" * 5000, "1979-05-27", "0x1F", "{a=1}", "")
        return f"{text}\n{name} = {value}"
    return draw.cut(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
