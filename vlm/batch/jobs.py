"""Jobs: many prompts with their options, from a JSON Lines file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..arguments import MOST, need_path
from ..files.inside import is_inside
from ..files.json_lines import lines_of, object_of
from ..files.names import LONGEST, is_file_name
from ..pictures.media_files import frames_in, read_text
from ..prompts.system_file import read_system_prompt
from ..quoted import told
from .recipe import Recipe, bare_turns, facts_of, option
from .turns import read_turns, read_turns_file

KEYS = ("id", "text_file", "system_file", *(field.name for field in fields(Recipe)))
NUMBERS = ("fps", "clip_sigma", "weight", "alpha")
COUNTS = ("min_pixels", "max_pixels")
_PLACES = ("text_file", "system_file", "video", "stats", "image", "audio", "conversation")
EXAMPLE = '{"text": "a boat"}'
_SHOWN = 60  # characters of a refused value in a message


@dataclass(frozen=True)
class Provenance:
    """What turns jobs into conditionings; with another one the files are others.

    Attributes:
        model: The model's name.
        dtype: Of its weights, as asked for: a name or `auto`.
    """

    model: str
    dtype: str = "auto"


@dataclass(frozen=True)
class Job:
    """One conditioning to make.

    Attributes:
        id: Name of its file, without the ending.
        recipe: What to make; its paths can be opened from here.
        digest: SHA-256 of the recipe as it was written and of the maker, hexadecimal. It knows
            pictures, videos and statistics by their names, not by what they hold.
    """

    id: str
    recipe: Recipe
    digest: str


def read_jobs(
    file: str | Path,
    defaults: Recipe,
    maker: Provenance,
    root: str | Path | None = None,
    allow_outside: bool = False,
) -> list[Job]:
    """The jobs of a JSON Lines file, all of them checked.

    A line is an object with the options of `python -m vlm encode` as keys (`text`, `image`,
    `layers`, `max-pixels` or `max_pixels`, ...), and `id`, the name of its file; without one, the
    number of its line. Relative paths start at the file's folder. Blank lines are skipped; null is
    as good as no key.

    Args:
        file: The file, UTF-8.
        defaults: What holds where a line is silent.
        maker: What will encode them.
        root: The folder that the files of a line must lie in; None = the jobs file's. What
            `defaults` name may lie anywhere.
        allow_outside: They may lie anywhere too. A line can then have the words of any file that
            this process may read written into its notes.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No job in it, or a line that is not JSON, has an unknown key, a bad value, a
            file outside `root`, an id that is no file name or was there before; names the line.
    """
    path = Path(file)
    need_path(path, "jobs")
    inside = None if allow_outside else Path(path.parent if root is None else root)
    if not path.is_file():
        raise FileNotFoundError(f"There is no jobs file {path}. Name one that exists.")
    jobs: list[Job] = []
    taken: dict[str, str] = {}
    for number, line in lines_of(path):
        where = f"Line {number} of {path.name}"
        try:
            given = read_options(object_of(line, EXAMPLE))
            name = given.pop("id", f"{number:06d}")
            jobs.append(make_job(name, given, defaults, maker, path.parent, inside))
            take(name, where, taken)
        except (ValueError, OSError, OverflowError) as error:
            raise ValueError(f"{where}: {error}") from error
    if not jobs:
        raise ValueError(f"{path.name} holds no job. Write one a line, such as {EXAMPLE}.")
    return jobs


def make_job(
    name: str,
    given: Mapping[str, Any],
    defaults: Recipe,
    maker: Provenance,
    place: Path,
    root: Path | None = None,
) -> Job:
    """A job from options that `read_options` gave.

    Args:
        name: Its id.
        given: Options by field name, `text_file` and `system_file`.
        defaults: What holds for the others.
        maker: What will encode it.
        place: Where relative paths of `given` start.
        root: The folder that its files must lie in; None = they may lie anywhere.

    Raises:
        FileNotFoundError: No such text file.
        ValueError: A bad value, a bad id, a file outside `root`, or nothing to encode.
    """
    _check_id(name)
    given = dict(given)
    if root is not None:
        _check_places(given, place, root)
    turns_place = place
    if isinstance(talk := given.get("conversation"), str):
        turns_place = (place / talk).parent
        given["conversation"] = read_turns_file(place / talk)
    if root is not None:
        _check_turns(given, turns_place, root)
    for key, read in (("text", read_text), ("system", read_system_prompt)):
        if (file := given.pop(f"{key}_file", None)) is not None:
            if key in given:
                raise ValueError(f"{key} and {key}_file are both given. Keep one.")
            given[key] = read(str(place / file))
    written = replace(defaults, **given)
    written.need_prompt()
    # Without places, so that a batch that moves to another machine goes on there.
    stats = written.stats and Path(written.stats).name
    turns = written.conversation if "conversation" in given else bare_turns(written)
    facts = [facts_of(replace(written, stats=stats, conversation=turns)), asdict(maker)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    placed: dict[str, Any] = {
        key: str(place / given[key]) for key in ("video", "stats") if key in given
    }
    for key in ("image", "audio"):
        if key in given:
            placed[key] = tuple(str(place / file) for file in given[key])
    if "conversation" in given:
        placed["conversation"] = tuple(turn.at(turns_place) for turn in written.conversation)
    return Job(name, replace(written, **placed), digest)


def read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON has them, as the types of `Recipe`; None is as good as no key.

    Raises:
        ValueError: An unknown key, one that is there twice, or a value of another kind.
    """
    options: dict[str, Any] = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name not in KEYS:
            known = ", ".join(KEYS)
            raise ValueError(f"{told(key)} is no option of a job. Use {known}.")
        if name in options:
            raise ValueError(f"{name} is there twice, also with a dash. Keep one.")
        if value is not None:
            options[name] = _value(name, value)
            if name in _PLACES:
                need_path(options[name], option(name))
    return options


def _value(name: str, value: Any) -> Any:
    """A value of JSON in the type of its field."""
    if name in ("image", "audio"):
        files = [value] if isinstance(value, str) else value
        if isinstance(files, list) and all(isinstance(file, str) for file in files):
            return tuple(files)
        raise _wrong(name, value, 'a file or a list of files, such as ["a.png", "b.png"]')
    if name in ("layers", "reference_layers"):
        layers = value if isinstance(value, list) else [value]
        if layers and all(_is_whole(layer) for layer in layers):
            return ",".join(str(int(layer)) for layer in layers)
    if name == "conversation" and not isinstance(value, str):  # else its file
        return read_turns(value)
    if name in ("no_final_norm", "placed", "audio_in_video"):
        return _need(isinstance(value, bool), name, value, "true or false")
    if name in NUMBERS:
        return float(_need(_is_number(value), name, value, f"a number (at most {MOST:g})"))
    if name in COUNTS:
        return int(_need(_is_whole(value), name, value, "a whole number"))
    return _need(isinstance(value, str), name, value, "text")


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and not MOST < abs(value) < math.inf


def _is_whole(value: Any) -> bool:
    """Also 9.0, which a column of numbers makes of 9 where another row has none."""
    return _is_number(value) and math.isfinite(value) and value == value // 1


def _need(right: bool, name: str, value: Any, expected: str) -> Any:
    if not right:
        raise _wrong(name, value, expected)
    return value


def _wrong(name: str, value: Any, expected: str) -> ValueError:
    what = name if name == "id" else option(name)
    shown = json.dumps(value)  # as the line has it
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return ValueError(f"{what} is {shown}, expected {expected}.")


def _check_id(name: str) -> None:
    if not is_file_name(name):
        raise ValueError(
            f"id {name[:LONGEST]!r} cannot be a file's name. Use 1 to {LONGEST} letters, digits, "
            "'-', '_' and '.', no slash, no dot or space at either end, and no device of Windows "
            "such as con or nul."
        )


def _check_places(given: Mapping[str, Any], place: Path, root: Path) -> None:
    for key in _PLACES:
        named = given.get(key, ())
        files = [named] if isinstance(named, str) else named
        _check_files(key, [file for file in files if isinstance(file, str)], place, root)


def _check_turns(given: Mapping[str, Any], place: Path, root: Path) -> None:
    for turn in given.get("conversation", ()):
        _check_files("A file of the conversation", turn.files, place, root)


def _check_files(what: str, files: Iterable[str], place: Path, root: Path) -> None:
    for file in files:
        if not all(is_inside(path, root) for path in _with_frames(place / file)):
            raise ValueError(
                f"{what} is {told(file)}, which lies outside of {root}, or leads there. Name a "
                "file inside, a folder around all of them with --root, or give --allow-outside if "
                "you trust who wrote these jobs."
            )


def _with_frames(path: Path) -> Iterator[Path]:
    """A file, and behind a folder its pictures: each of them can be a link."""
    yield path
    if path.is_dir():
        yield from frames_in(path)


def take(name: str, where: str, taken: dict[str, str]) -> None:
    """Remembers whose an id is; some file systems know no capitals."""
    before = taken.setdefault(name.casefold(), where)
    if before != where:
        raise ValueError(
            f"id {told(name)} is that of {before[:1].lower()}{before[1:]}. Give each its own, also "
            "where capitals do not count."
        )
