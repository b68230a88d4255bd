"""A JSON file of a model folder, read or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not JSON, or not an object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number too long
        raise ValueError(f"{file} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} does not hold a JSON object. Download it again.")
    return content
