"""Conditioning on disk: entries to one safetensors file and back.

Layout, version 1. Tensors are named ``0.states`` (first entry) and, for tensors among the options,
``0.options.0``, ``0.options.1`` in the order met. The metadata hold ``format`` =
``vlm_conditioning``, ``version``, and as JSON ``about`` and ``entries``, one
``{"map": token map or null, "options": {...}}`` each. A value of the options is written as itself
(None, a bool, a number, text), as a list of values, or as an object with the one key ``tensor``
(a name), ``tuple`` (a list of values) or ``dict`` (keys to values).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from ..arguments import checked, told
from ..files.whole_file import write_whole
from ..token_map import read_map
from ..tokens.tokens import Tokens
from .entries import Entry

FORMAT, VERSION = "vlm_conditioning", 1
_PLAIN = (type(None), bool, int, float, str)
_EXPECTED = (
    "Expected what `save_conditioning` or `python -m vlm encode` writes; write the file again."
)
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RecursionError)  # what bad JSON raises
# Nodes whose options no file can hold, and that can as well come after loading.
_ADDED_BY = {
    "hooks": "Set CLIP Hooks or Cond Set Props",
    "control": "Apply ControlNet",
    "gligen": "GLIGENTextBoxApply",
}


@checked
def save_conditioning(
    entries: Sequence[Entry], path: str | Path, about: Mapping[str, Any] | None = None
) -> None:
    """Writes a conditioning as one safetensors file.

    The file is written beside its place and then moved there, so that a failure leaves an older
    file of that name whole.

    Args:
        entries: at least one; tensors ``[B, N, D]`` keep their dtype, with token maps and options.
        path: the file, in a folder that exists. One of the same name is replaced.
        about: notes for people: model, target, layers, prompt. Values as in the options, without
            tensors.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no entry, or an option or note that is neither a tensor nor plain data.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} for the conditioning does not exist.")
    if not entries:
        raise ValueError("There is no entry to save. Connect a CONDITIONING with at least one.")
    tensors: dict[str, torch.Tensor] = {}
    rows = [_entry_out(number, entry, tensors) for number, entry in enumerate(entries)]
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "entries": json.dumps(rows),
        "about": json.dumps(_value_out(dict(about or {}), "about", None)),
    }
    write_whole(path, _in_order(save(tensors, metadata)))


@checked
def load_conditioning(path: str | Path) -> list[Entry]:
    """Reads what ``save_conditioning`` wrote.

    Args:
        path: the file.

    Returns:
        The entries, at least one; tensors on the CPU in the dtype they were saved in, in memory of
        their own.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, one cut short or damaged, one that holds NaN or Inf, or
            one of a newer version.
    """
    path = Path(path)
    tensors, metadata = _read(path, with_tensors=True)
    _check_finite(tensors, path.name)
    try:
        rows = json.loads(metadata["entries"])
        entries = [_entry_in(number, row, tensors) for number, row in enumerate(rows)]
    except _DAMAGE as error:
        raise ValueError(f"{path.name} is damaged ({_words(error)}). {_EXPECTED}") from error
    if not entries:
        raise ValueError(f"{path.name} holds no entry. {_EXPECTED}")
    return entries


def load_about(path: str | Path) -> dict[str, Any]:
    """The notes of a conditioning file, without reading its tensors.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as ``load_conditioning``.
    """
    path = Path(path)
    metadata = _read(path, with_tensors=False)[1]
    try:
        return dict(_value_in(json.loads(metadata["about"]), {}))
    except _DAMAGE as error:
        raise ValueError(f"{path.name} is damaged ({_words(error)}). {_EXPECTED}") from error


def _check_finite(tensors: Mapping[str, torch.Tensor], name: str) -> None:
    """Raises ValueError for NaN or Inf, of which a sampler would make black pictures."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise ValueError(
                f"{name}: {key} holds NaN or Inf, finite numbers were expected. Encode the prompt "
                "again, in bfloat16 or float32 if it was float16."
            )


def _in_order(data: bytes) -> bytes:
    """The same file with its metadata sorted, which safetensors shuffles: same bytes each time."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a conditioning file that says it is one."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no conditioning file {path}. {_EXPECTED}")
    tensors: dict[str, torch.Tensor] = {}
    try:
        if with_tensors:
            # Read at once: the file may be replaced while we are at it.
            data = path.read_bytes()
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            metadata, names = header.get("__metadata__") or {}, list(tensors)
        else:
            with safe_open(path, "pt") as file:
                metadata, names = file.metadata() or {}, list(file.keys())
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is not a whole safetensors file ({error}). {_EXPECTED}"
        ) from error
    if metadata.get("format") != FORMAT:
        some = ", ".join(sorted(names)[:5]) or "nothing"
        raise ValueError(f"{path.name} holds no VLM conditioning but {some}. {_EXPECTED}")
    version = metadata.get("version")
    if version != str(VERSION):
        raise ValueError(
            f"{path.name} is a VLM conditioning of version {version}, this pack reads version "
            f"{VERSION}. Update the pack, or write the file again with this one."
        )
    return tensors, metadata


def _entry_out(number: int, entry: Entry, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """An entry as JSON; its tensors go to ``tensors``."""
    tensors[f"{number}.states"] = _own(entry.tokens.states)
    kept: dict[str, torch.Tensor] = {}
    options = {key: _value_out(value, key, kept) for key, value in entry.all_options.items()}
    if not all(type(key) is str for key in options):
        raise ValueError("The options of this conditioning have names that are no text.")
    tensors.update({f"{number}.options.{name}": tensor for name, tensor in kept.items()})
    return {"map": entry.tokens.token_map, "options": options}


def _value_out(value: Any, key: str, kept: dict[str, torch.Tensor] | None) -> Any:
    """A value as JSON; tensors go to ``kept`` under their number, where that is allowed."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, torch.Tensor) and kept is not None:
        name = str(len(kept))
        kept[name] = _own(value)
        return {"tensor": name}
    if type(value) in (list, tuple):
        items = [_value_out(item, key, kept) for item in value]
        return items if type(value) is list else {"tuple": items}
    if type(value) is dict and all(type(name) is str for name in value):
        return {"dict": {name: _value_out(item, key, kept) for name, item in value.items()}}
    raise ValueError(_cannot_hold(value, key))


def _cannot_hold(value: Any, key: str) -> str:
    node = _ADDED_BY.get(key)
    fix = "Save the conditioning before the node that adds it."
    if node is not None:
        fix = f"Save the conditioning before {node}, and put {node} behind the node that loads it."
    what = "a dict with names that are no text" if type(value) is dict else type(value).__name__
    return (
        f"{told(key)} of this conditioning holds {what}, which a file cannot hold. Tensors, "
        "numbers, "
        f"text, lists and dicts of these were expected. {fix}"
    )


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Memory of its own: safetensors refuses tensors that share theirs."""
    return tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)


def _entry_in(number: int, row: dict, tensors: dict[str, torch.Tensor]) -> Entry:
    states = tensors[f"{number}.states"]
    start = f"{number}.options."
    ours = (name for name in tensors if name.startswith(start))
    kept = {name.removeprefix(start): tensors[name] for name in ours}
    options = {key: _value_in(value, kept) for key, value in row["options"].items()}
    token_map = read_map(row["map"], states.shape[1]) if states.ndim == 3 else None
    return Entry(Tokens(states, token_map), options)


def _value_in(value: Any, kept: Mapping[str, torch.Tensor]) -> Any:
    """The inverse of ``_value_out``."""
    if isinstance(value, list):
        return [_value_in(item, kept) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"an option is {value}")
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "tensor":
        return kept[inner]
    if kind == "tuple":
        return tuple(_value_in(item, kept) for item in inner)
    if kind == "dict":
        return {name: _value_in(item, kept) for name, item in inner.items()}
    raise ValueError(f"an option of the unknown kind {told(kind)}")


def _words(error: Exception) -> str:
    """What went wrong, in a line; a KeyError alone would be a bare name."""
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error).split("\n")[0]
