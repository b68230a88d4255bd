"""System prompts from files: which there are, and the widget of the nodes that have `system`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..vlm.files.names import is_file_name
from ..vlm.prompts.system_file import read_system_prompt
from ..vlm.quoted import told
from .folders import model_places, model_roots, quoted, time_and_size
from .listing import Found, Listing, Look, belongs

NONE = "none"
_ROOT = "vlm_prompts"
_MOST_NAMES = 8  # of other files that a message names


def _find_files(look: Look) -> Found:
    """Files by their name below the folders; what cannot be a system prompt is left out."""
    return {
        name: root / name
        for root in reversed(model_roots(_ROOT, look=look))
        for name in look.below(str(root), (".txt",))
        if belongs(f"{root}/{name}", _is_prompt, look, "system_file")
    }, {}


def _is_prompt(file: Path) -> bool:
    return bool(read_system_prompt(file))


FILES = Listing(_find_files, lambda: model_places(_ROOT))


def system_file_input() -> io.Input:
    """The files to choose from; `NONE` is the choice of none."""
    return io.Combo.Input(
        "system_file",
        options=[NONE, *FILES.all()],
        default=NONE,
        optional=True,
        advanced=True,
        tooltip="System prompt from a .txt file of models/vlm_prompts, such as the prompt enhancer "
        "that the model's maker publishes. Takes the place of `system`, which must be empty. A "
        "changed file is read again. none = no file.",
    )


def has_odd_system_file(system: Any, system_file: Any) -> str:
    """What is said when a prompt is queued; "" where nothing is wrong.

    Args:
        system: The widget's text; None where it comes over a wire.
        system_file: The widget's choice, likewise.
    """
    if system_file is None:
        return ""
    if not isinstance(system_file, str):
        return f"system_file is {told(system_file)}; write the name of a file, or {NONE}."
    try:
        system_prompt(system if isinstance(system, str) else "", system_file)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return ""


def system_prompt(system: str, system_file: str) -> str:
    """What was typed, or what the chosen file holds; "" where there is neither.

    Raises:
        FileNotFoundError: No such file in the folder.
        ValueError: There are both, or the file cannot be read.
    """
    if system_file == NONE:
        return system
    if system.strip():
        raise ValueError(
            f"system holds text ({told(system.strip())}) and system_file is {told(system_file)}; "
            f"only one can be the system prompt. Empty system, or set system_file to {NONE}."
        )
    return read_system_prompt(_find(system_file))


def system_fingerprint(system_file: Any) -> tuple | None:
    """Changes when the file does; None where there is none, or it comes over a wire."""
    if not isinstance(system_file, str) or system_file == NONE:
        return None
    return time_and_size(FILES.get(system_file))


def _find(name: str) -> Path:
    """A listed file, or one that is there and cannot be read, for its reader to say why.

    Raises:
        FileNotFoundError: None of that name; names never reach outside the folders.
    """
    path = FILES.get(name)
    if path is not None:
        return path
    parts = name.split("/")
    if name.lower().endswith(".txt") and all(map(is_file_name, parts)):
        for root in model_roots(_ROOT):
            if root.joinpath(*parts).exists():
                return root.joinpath(*parts)
    raise FileNotFoundError(
        f"There is no system prompt file called {quoted(name)}. Put it (.txt in UTF-8) into "
        f"models/{_ROOT}, {_what_lies_there(list(FILES.all()))}; then reload the node definitions "
        "(key R) and choose it as system_file."
    )


def _what_lies_there(names: list[str]) -> str:
    """`where 'a.txt', 'b.txt' and 3 more lie now`."""
    if not names:
        return "where none lies now"
    more = len(names) - _MOST_NAMES
    listed = ", ".join(map(quoted, names[:_MOST_NAMES])) + (f" and {more} more" if more > 0 else "")
    return f"where {listed} {'lies' if len(names) == 1 else 'lie'} now"
