"""The version, from its one source: pyproject.toml, or what an installation made of it."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

NAME = "vlm-conditioning"


def find_version() -> str:
    """The version of this checkout, or else of the installed library."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    text = project.read_text(encoding="utf-8") if project.is_file() else ""
    said = re.search(rf'^name = "{NAME}"\nversion = "([^"]+)"', text, re.MULTILINE)
    return said[1] if said else version(NAME)
