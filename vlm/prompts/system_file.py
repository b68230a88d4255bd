"""System prompts in files, as people keep them and makers of models publish them."""

from __future__ import annotations

from pathlib import Path

from ..arguments import need_path
from ..files.units import KILOBYTE

MOST_BYTES = 64 * KILOBYTE  # 16 000 tokens of English; published prompts have 2 to 10 KB


def read_system_prompt(file: str | Path) -> str:
    r"""The text of a file.

    Args:
        file: UTF-8, with or without its mark in front, at most MOST_BYTES.

    Returns:
        The text with `\n` between its lines, whatever system wrote it, and without white space
        around it: a line end at the end of a file is no part of a prompt.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No file, too large, empty, unreadable or not UTF-8; named without its folder.
    """
    path = Path(file)
    need_path(path, "system_file")
    if not path.exists():
        raise FileNotFoundError(f"There is no system prompt file {file}. Name one that exists.")
    if not path.is_file():  # reading a pipe would wait for ever
        raise ValueError(f"{path.name} is no file. Name a text file with a system prompt.")
    try:
        with path.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror}).") from error
    if len(data) > MOST_BYTES:
        raise ValueError(
            f"{path.name} is larger than {MOST_BYTES // KILOBYTE} KB, the most that is read as a "
            "system prompt. Leave only the prompt in it."
        )
    text = _decoded(data, path.name).strip()
    if not text:
        raise ValueError(f"{path.name} is empty. Write the system prompt into it.")
    return text


def _decoded(data: bytes, name: str) -> str:
    """UTF-8 with its lines as Python has them."""
    try:
        text = data.decode("utf-8-sig")
        zero = text.find("\0")  # valid, but it is what UTF-16 looks like
        place = None if zero < 0 else len(text[:zero].encode())
    except UnicodeDecodeError as error:
        place = error.start
    if place is not None:
        raise ValueError(
            f"{name} is not text in UTF-8 (its byte {place} is none). Save it as UTF-8 in a text "
            "editor."
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")
