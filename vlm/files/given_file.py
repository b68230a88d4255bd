"""A file or folder that a person named."""

from __future__ import annotations

from pathlib import Path

from ..quoted import told
from .names import path_problem


def find_there(file: str | Path, what: str) -> Path:
    """The path of what lies there.

    Args:
        file: As it was given.
        what: What it is to be, for the message.

    Raises:
        FileNotFoundError: Nothing lies there.
    """
    path = Path(file)
    wrong = path_problem(path)
    if wrong is not None:
        raise FileNotFoundError(f"There is no {what} {told(str(file))}: {wrong}. Name another one.")
    try:
        found = path.exists()
    except OSError:  # a folder on the way may not be looked into
        found = False
    if not found:
        raise FileNotFoundError(f"There is no {what} {file}. Name one that exists.")
    return path


def find_file(file: str | Path, what: str) -> Path:
    """The path of an ordinary file: reading a pipe would wait for ever, a device has no end.

    Args:
        file: As it was given.
        what: What it is to be, for the message.

    Raises:
        FileNotFoundError: Nothing lies there.
        ValueError: Something else lies there.
    """
    path = find_there(file, what)
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise ValueError(f"{file} is {kind}, expected a {what}. Name an ordinary file.")
    return path
