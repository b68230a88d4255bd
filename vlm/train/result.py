"""What a run leaves behind: the connector's file with what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..connectors.connector_metadata import FORMAT, VERSION
from ..connectors.file import write_state_dict
from ..connectors.lap_blocks import LAP
from ..connectors.lap_file import metadata_of
from ..version import find_version
from .recipe import TrainRecipe
from .student import Student

PLACES = ("captions", "vlm", "teacher", "dit", "start", "out", "cache")


def write_connector(
    student: Student, path: Path, recipe: TrainRecipe, facts: Mapping[str, Any]
) -> None:
    """Writes the file that `load_connector` reads.

    Args:
        student: The connector.
        path: A .safetensors file.
        recipe: What it was made by; of its places the names alone are written.
        facts: `vlm`, `layers`, `target`, and what else is told of the run.

    Raises:
        OSError: It cannot be written.
    """
    metadata = {"format": FORMAT, "version": VERSION}
    metadata |= {name: value if isinstance(value, str) else json.dumps(value)
                 for name, value in facts.items()}  # fmt: skip
    metadata |= {"recipe": json.dumps(named(recipe), ensure_ascii=False), "pack": find_version()}
    if isinstance(student.module, LAP):
        metadata |= metadata_of(student.module)
    write_state_dict(student.file_weights(), path, metadata)


def named(recipe: TrainRecipe) -> dict[str, Any]:
    """A recipe with names in place of places on this machine."""
    values = asdict(recipe)
    return values | {key: Path(values[key]).name for key in PLACES}
