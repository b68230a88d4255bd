"""Which versions of transformers the pack was tested with, and what is said about others."""

from __future__ import annotations

from pathlib import Path

from ..files.json_file import read_json
from ..logger import LOG

# Oldest first; `.ci/matrix` writes the list.
TESTED = tuple(read_json(Path(__file__).with_name("tested_versions.json"))["transformers"])

_said: set[tuple[str, str]] = set()  # what was warned of, and the family's title


def installed() -> str:
    """The version of transformers in use."""
    import transformers

    return transformers.__version__


def is_tested() -> bool:
    """Whether the version in use is one of them."""
    return installed() in TESTED


def warn_of_plain_forward(title: str, why: str) -> None:
    """Says that a family runs in plain forwards from now on, once in a process.

    Args:
        title: The family's.
        why: What became of its layers one at a time.
    """
    if ("plain", title) in _said:
        return
    _said.add(("plain", title))
    LOG.warning(
        "transformers %s does not run the layers of %s one at a time as this pack knows it (%s). "
        "They run in one forward instead, with the same result: slower, deeper layers are not "
        "resumed, prefixes are not reused, and rewriting runs the whole prompt for every token. "
        "%s",
        installed(),
        title,
        why,
        advice(),
    )


def warn_of_other_numbers(title: str, why: str) -> None:
    """Says that a family gives other numbers than with the versions tested, once in a process.

    Args:
        title: The family's.
        why: What differs.
    """
    if ("numbers", title) in _said:
        return
    _said.add(("numbers", title))
    LOG.warning(
        "With transformers %s %s gives other hidden states than with the versions tested (%s), "
        "layer by layer and in one forward alike. Pictures may change. %s",
        installed(),
        title,
        why,
        advice(),
    )


def forget_warnings() -> None:
    """Has every warning said again."""
    _said.clear()


def neither_runs(title: str, why: str) -> str:
    """What is said where neither layers nor a plain forward of a family run."""
    told = f"transformers {installed()} does not run {title} as this pack knows it ({why})."
    return f"{told} {advice()}"


def advice() -> str:
    """What a person can do."""
    return f"Update the pack, or install a version it was tested with: transformers {TESTED[-1]}."
