"""Versions of Python and of the packages that the library needs."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.version import InvalidVersion, Version

from ..running.versions import TESTED
from .findings import Findings

OLDEST_PYTHON = (3, 10)
# As pyproject.toml asks for them.
OLDEST = {
    "torch": "2.4",
    "transformers": "4.57",
    "tokenizers": "",
    "safetensors": "0.4.5",
    "einops": "0.7",
    "pillow": "10",
    "numpy": "1.26",
    "matplotlib": "3.8",
    "scipy": "1.10",
    "tqdm": "4.66",
    "huggingface_hub": "0.34",
    "filelock": "3.12",
}
TRANSFORMERS = "transformers"


def examine_versions() -> Findings:
    """Python and the packages of this process: the version of each, and whether it will do."""
    found = Findings()
    python = platform.python_version()
    found.facts.append({"name": "python", "version": python, "path": sys.executable})
    if sys.version_info < OLDEST_PYTHON:
        found.problem("python", f"Python {python} is too old. Install Python 3.10 or newer.")
    for name in OLDEST:
        there = _installed(name)
        fact: dict[str, Any] = {"name": name, "version": there}
        if name == TRANSFORMERS:
            fact["tested"] = there in TESTED
        found.facts.append(fact)
        judge_version(found, name, there, "pip install -U")
        if there is not None and name == TRANSFORMERS and not fact["tested"]:
            found.note(name, untested(there))
    return found


def judge_version(found: Findings, name: str, there: str | None, install: str) -> None:
    """Adds a problem where a package is missing or older than the library needs.

    Args:
        found: What to add to.
        name: A key of `OLDEST`.
        there: Its version; None = missing.
        install: The command that installs packages where it is looked for.
    """
    oldest = OLDEST[name]
    wanted = f"{name}>={oldest}" if oldest else name
    if there is None:
        found.problem(name, f"{name} is not installed. Run: {install} '{wanted}'")
    elif oldest and _older(there, oldest):
        text = f"{name} {there} is older than {oldest}. Run: {install} '{wanted}'"
        found.problem(name, text)


def untested(there: str) -> str:
    """What is said of a version of transformers that is not on the list."""
    return (
        f"transformers {there} is not one of the versions this pack was tested with "
        f"({', '.join(TESTED)}). The self-check of the families says whether it works; if "
        f"not, run: pip install transformers=={TESTED[-1]}"
    )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _older(there: str, oldest: str) -> bool:
    try:
        return Version(there) < Version(oldest)
    except InvalidVersion:  # a build of someone's own
        return False
