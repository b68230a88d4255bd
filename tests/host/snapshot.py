"""Committed JSON files that mirror what a running ComfyUI says of our nodes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

UPDATE = "UPDATE_SNAPSHOTS"
GROWN_SLOTS = 4


def updating() -> bool:
    """Whether the files are to be rewritten: `UPDATE_SNAPSHOTS=1 python -m pytest ...`."""
    return os.environ.get(UPDATE, "") not in ("", "0")


def assert_same_as_file(value: Any, file: Path) -> None:
    """Compares with the file, or rewrites it where `updating()`."""
    if updating():
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(value, indent=2, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")
        return
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    how = f"{file.name} is made from the nodes: run this test again with {UPDATE}=1"
    assert sorted(value) == sorted(stored), how
    for key in value:  # node by node, so that pytest shows the difference and not the file
        assert value[key] == stored[key], f"{key}: {how}"


def inputs_in_order(info: dict[str, Any]) -> list[tuple[str, bool, Any, dict[str, Any]]]:
    """Inputs of an /object_info entry: (name, whether required, type, settings), as on the node."""
    return [
        (name, group == "required", *_spec(info["input"][group][name]))
        for group in ("required", "optional")
        for name in info["input_order"].get(group, ())
    ]


def grown_input(settings: dict[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    """What an Autogrow input repeats: (prefix of its slots, type, settings)."""
    template = settings["template"]
    kinds = {**template["input"].get("required", {}), **template["input"].get("optional", {})}
    (spec,) = kinds.values()
    return (template["prefix"], *_spec(spec))


def _spec(spec: list[Any]) -> tuple[Any, dict[str, Any]]:
    return spec[0], spec[1] if len(spec) > 1 else {}
