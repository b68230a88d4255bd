"""Names of files, as people and workflows of others write them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import vlm
from vlm import cli
from vlm.files.names import is_file_name
from vlm.pictures.media_files import read_picture, read_text, read_video
from vlm.prompts.system_file import read_system_prompt
from vlm.train.recipe_file import read_recipe

from ..case import Case, Make, line_of
from ..draw import Draw
from ..judge import Refused
from .models import picture

ENDINGS = ("", ".safetensors", ".png", ".toml", ".npz", ".gguf", ".pt", "/", "/x", "\x00", " ", ".")


def prepare(base: Path) -> Make:
    """What is saved under the names."""
    t = vlm.Tokens(picture_tensor())
    entries, stats = [vlm.Entry(t, {})], vlm.Stats([0.0], [1.0])
    readers: dict[str, Callable[[str], Any]] = {
        "load": vlm.load,
        "load_conditioning": vlm.load_conditioning,
        "load_connector": vlm.load_connector,
        "load_stats": vlm.load_stats,
        "read_picture": read_picture,
        "read_video": lambda name: read_video(name, None),
        "read_text": read_text,
        "read_system_prompt": read_system_prompt,
        "read_recipe": read_recipe,
        "convert": lambda name: _command("convert", f"./{name}", "out.safetensors"),
        "save_conditioning": lambda name: vlm.save_conditioning(entries, name),
        "save_stats": lambda name: vlm.save_stats(stats, name),
        "encode": lambda name: _command(
            "encode", "--model", "none", "--out", "o", f"--folder={name}"
        ),
        "is_file_name": _is_right,
    }

    def make(draw: Draw, room: Path) -> Case:
        reader = draw.choice(list(readers))
        name = _inside(draw, room)
        if reader != "is_file_name" and draw.chance(0.3):
            _put_there(draw, room, name)
        return Case(line_of(reader, name), lambda: readers[reader](name))

    return make


def picture_tensor() -> Any:
    """States of three tokens."""
    return Draw(0).tensor(1, 3, 4)


def _inside(draw: Draw, room: Path) -> str:
    """A name that leads nowhere outside: what a caller asks for may lie anywhere."""
    while True:
        name = draw.text() + draw.one(*ENDINGS)
        try:
            real = os.path.realpath(name)
        except (OSError, ValueError):
            return name
        if name not in ("tiny",) and os.path.commonpath([real, str(room)]) == str(room):
            return name


def _put_there(draw: Draw, room: Path, name: str) -> None:
    """Something of that name, if a file can have it."""
    try:
        kind = draw.one("file", "folder", "pipe", "picture", "link")
        if kind == "file":
            Path(name).write_bytes(draw.randbytes(20))
        elif kind == "folder":
            Path(name).mkdir()
        elif kind == "pipe":
            os.mkfifo(name)
        elif kind == "link":
            Path(name).symlink_to(draw.one(name, "nowhere"))
        else:
            picture().save(name, "PNG")
    except (OSError, ValueError):
        pass


def _command(*words: str) -> None:
    """`python -m vlm` with these words; its error is a line."""
    with redirect_stderr(io.StringIO()) as said:
        status = cli.main(words)
    if status == 2:
        raise Refused(said.getvalue())


def _is_right(name: str) -> None:
    """A name that is taken can be a file's here."""
    if is_file_name(name):
        Path(name).write_bytes(b"a")
        if name not in os.listdir("."):
            raise AssertionError("another name was written")
