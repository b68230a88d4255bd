"""Whether a file lies where it may."""

from __future__ import annotations

from pathlib import Path

from .names import path_problem


def is_inside(file: Path, root: Path) -> bool:
    """Whether a path leads to something below a folder, links followed; it need not be there.

    Args:
        file: Relative ones start where the process runs.
        root: The folder.
    """
    if path_problem(file) is not None:
        return False
    try:
        return file.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle
        return False
