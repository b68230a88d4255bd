"""Conditioning on disk: entries to one safetensors file and back.

Layout, version 2. The metadata hold ``format`` = ``vlm_conditioning``, ``version``, ``checksum``,
and as JSON ``about`` and ``entries``, one ``{"map": token map or null, "options": {...}, "states":
name of its tensor, "tensors": names of those among its options}`` each. A value of the options is
written as itself (None, a bool, a number, text), as a list of values, or as an object with the one
key ``tensor`` (its place in "tensors", as text), ``tuple`` (a list of values) or ``dict`` (keys to
values). A single entry names its tensors as ComfyUI's Load Conditioning wants them, and has
``conditioning_options`` (see ``native_file.py``); of several, whose first alone that node would
read, the tensors are ``0.states``, ``0.options.0`` and so on, as in version 1, which lists no names
and has no checksum. Files of ComfyUI's Save Conditioning are read as well.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load, save

from ..arguments import checked
from ..files.tensor_file import UNREADABLE, check_dimensions, need_names
from ..files.whole_file import write_whole
from ..finite import is_finite
from ..quoted import reason, told
from ..token_map import map_text, read_map
from ..tokens.tokens import Tokens
from .entries import MAP, Entry
from .native_file import OPTIONS, STATES, native_names, native_options, native_values
from .option_names import checked_options

FORMAT, VERSION = "vlm_conditioning", 2
CHECKSUM = "checksum"
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
    names = native_names(entries[0].all_options) if len(entries) == 1 else None
    rows = [_entry_out(number, entry, tensors, names) for number, entry in enumerate(entries)]
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "entries": json.dumps(rows),
        "about": json.dumps(_value_out(dict(about or {}), "about", None)),
    }
    if names is not None:
        metadata[OPTIONS] = native_values(_with_map(entries[0]))
    write_whole(path, _sealed(save(tensors, metadata)))


@checked
def load_conditioning(path: str | Path) -> list[Entry]:
    """Reads what ``save_conditioning`` wrote, or ComfyUI's Save Conditioning.

    Args:
        path: the file.

    Returns:
        The entries, at least one; tensors on the CPU in the dtype they were saved in, in memory of
        their own.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, one cut short or damaged (its checksum says so, if it has
            one), one that holds NaN or Inf, an option of the wrong kind, or one of a newer version.
    """
    path = Path(path)
    tensors, metadata = _read(path, with_tensors=True)
    check_dimensions(tensors, path)
    _check_finite(tensors, path.name)
    try:
        if metadata.get("format") != FORMAT:
            return [_native_in(tensors, metadata, path.name)]
        rows = json.loads(metadata["entries"])
        entries = [_entry_in(number, row, tensors, path.name) for number, row in enumerate(rows)]
    except _DAMAGE as error:
        raise ValueError(f"{path.name} is damaged ({reason(error)}). {_EXPECTED}") from error
    if not entries:
        raise ValueError(f"{path.name} holds no entry. {_EXPECTED}")
    return entries


def load_about(path: str | Path, whole: bool = False) -> dict[str, Any]:
    """The notes of a conditioning file, without its tensors.

    Args:
        path: the file.
        whole: also reads all of it and compares it with its checksum, which it must have.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as ``load_conditioning``.
    """
    path = Path(path)
    metadata = _read(path, with_tensors=whole)[1]
    if whole and CHECKSUM not in metadata:
        raise ValueError(f"{path.name} has no checksum. {_EXPECTED}")
    if metadata.get("format") != FORMAT:
        return {}  # ComfyUI's own has none
    try:
        return dict(_value_in(json.loads(metadata["about"]), {}))
    except _DAMAGE as error:
        raise ValueError(f"{path.name} is damaged ({reason(error)}). {_EXPECTED}") from error


def _check_finite(tensors: Mapping[str, torch.Tensor], name: str) -> None:
    """Raises ValueError for NaN or Inf, of which a sampler would make black pictures."""
    for key, tensor in tensors.items():
        if not is_finite(tensor):
            raise ValueError(
                f"{name}: {key} holds NaN or Inf, finite numbers were expected. Encode the prompt "
                "again, in bfloat16 or float32 if it was float16."
            )


def _sealed(data: bytes) -> bytes:
    """The same file with a checksum, and its metadata sorted, which safetensors shuffles."""
    header, tensors = _parted(data)
    header["__metadata__"][CHECKSUM] = _checksum(header, tensors)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + tensors


def _parted(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and tensors of a whole safetensors file."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :]


def _checksum(header: Mapping[str, Any], tensors: memoryview) -> str:
    """Of everything but the checksum itself."""
    notes = header.get("__metadata__") or {}
    rest = {key: value for key, value in notes.items() if key != CHECKSUM}
    text = json.dumps({**header, "__metadata__": rest}, sort_keys=True)
    digest = hashlib.sha256(text.encode())
    digest.update(tensors)
    return digest.hexdigest()


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a conditioning file that says it is one."""
    gone = f"There is no conditioning file {path}. {_EXPECTED}"
    if not path.is_file():
        raise FileNotFoundError(gone)
    tensors: dict[str, torch.Tensor] = {}
    try:
        if with_tensors:
            # Read at once: the file may be replaced while we are at it.
            data = path.read_bytes()
            tensors = load(data)
            header, rest = _parted(data)
            metadata, names = header.get("__metadata__") or {}, list(tensors)
            if CHECKSUM in metadata and metadata[CHECKSUM] != _checksum(header, rest):
                raise ValueError(
                    f"{path.name} is damaged (its content is not what its checksum says). "
                    f"{_EXPECTED}"
                )
        else:
            with safe_open(path, "pt") as file:
                metadata, names = file.metadata() or {}, list(file.keys())
    except UNREADABLE as error:
        if not path.is_file():  # safe_open opens it twice, and it was taken away in between
            raise FileNotFoundError(gone) from error
        raise ValueError(
            f"{path.name} is not a whole safetensors file ({reason(error)}). {_EXPECTED}"
        ) from error
    need_names(names, path)
    if metadata.get("format") is None and STATES in names:
        return tensors, metadata
    if metadata.get("format") != FORMAT:
        some = ", ".join(map(told, sorted(names)[:5])) or "nothing"
        raise ValueError(f"{path.name} holds no VLM conditioning but {some}. {_EXPECTED}")
    version = metadata.get("version")
    if version not in ("1", str(VERSION)):
        raise ValueError(
            f"{path.name} is a VLM conditioning of version {told(version)}, this pack reads up to "
            f"{VERSION}. Update the pack, or write the file again with this one."
        )
    return tensors, metadata


def _entry_out(
    number: int, entry: Entry, tensors: dict[str, torch.Tensor], names: list[str] | None
) -> dict[str, Any]:
    """An entry as JSON; its tensors go to ``tensors``, under native names where it has them."""
    states = STATES if names is not None else f"{number}.states"
    tensors[states] = _own(entry.tokens.states)
    kept: dict[str, torch.Tensor] = {}
    options = {key: _value_out(value, key, kept) for key, value in entry.all_options.items()}
    if names is None:
        names = [f"{number}.options.{place}" for place in kept]
    tensors.update(zip(names, kept.values(), strict=True))
    row = {"map": entry.tokens.token_map, "options": options}
    return {**row, "states": states, "tensors": names}


def _with_map(entry: Entry) -> dict[str, Any]:
    """Its options as the wire has them, the token map among them."""
    if entry.tokens.token_map is None:
        return entry.all_options
    return {**entry.all_options, MAP: map_text(entry.tokens.token_map)}


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


def _entry_in(number: int, row: dict, tensors: dict[str, torch.Tensor], file: str) -> Entry:
    states = tensors[row.get("states", f"{number}.states")]
    start = f"{number}.options."  # version 1 lists no names
    names = row.get("tensors", [name for name in tensors if name.startswith(start)])
    places = [str(place) for place in range(len(names))]
    if "tensors" not in row:
        places = [name.removeprefix(start) for name in names]
    kept = {place: tensors[name] for place, name in zip(places, names, strict=True)}
    options = {key: _value_in(value, kept) for key, value in row["options"].items()}
    return _entry(states, row["map"], options, file)


def _native_in(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], file: str
) -> Entry:
    options = native_options(tensors, metadata)
    for value in options.values():
        if not isinstance(value, torch.Tensor):
            _value_in(value, {})
    return _entry(tensors[STATES], options.pop(MAP, None), options, file)


def _entry(states: torch.Tensor, token_map: Any, options: Mapping[str, Any], file: str) -> Entry:
    fits = read_map(token_map, states.shape[1]) if states.ndim == 3 else None
    return Entry(Tokens(states, fits), checked_options(options, file))


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
