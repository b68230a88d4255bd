"""A JSON file of a model folder, read or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..quoted import reason

LARGEST = 2**28  # bytes: Gemma's tokenizer.json has 33 MB


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not JSON, or not an object.
    """
    size = file.stat().st_size
    if size > LARGEST:
        raise ValueError(
            f"{file} has {size} bytes, far more than such a file needs. Download it again."
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number too long
        raise ValueError(
            f"{file} is not valid JSON ({reason(error)}). Download it again."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} does not hold a JSON object. Download it again.")
    return content
