"""Model folders and files: what each holds, and what is missing in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..families import FAMILIES
from ..files.json_file import read_json
from ..load import Source, read_source
from ..weights.checkpoint import check_fits
from ..weights.folder import find_adapter
from ..weights.safetensors_header import read_header
from ..weights.single_file import SUFFIX, has_tokenizer
from ..weights.tensor_names import find_model_type
from .findings import Findings

_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_TOKENIZER = Path("comfy/text_encoders/qwen25_tokenizer")  # that VLM Loader takes for single files
_LEVELS = ("*", "*/*")


def examine_models(
    places: Sequence[Path], usual: Sequence[Path] = (), comfyui: Path | None = None
) -> Findings:
    """Looks at every model in the places.

    Args:
        places: That the person named: models, or folders of them. What cannot be used is a problem.
        usual: Folders of models that were not named; other models in them are passed over.
        comfyui: A ComfyUI, whose tokenizer single files without one take.

    Returns:
        A fact per model of a family that is run here, and one per place named.
    """
    found, seen = Findings(), set()
    for place in places:
        models = list(find_models(place))
        if not models or _is_model(place):
            models = [place]
        for model in models:
            if model.resolve() not in seen:
                seen.add(model.resolve())
                examine_model(model, found, comfyui)
    for place in usual:
        for model in find_models(place):
            if model.resolve() not in seen:
                seen.add(model.resolve())
                examine_model(model, found, comfyui)
    return found


def usual_places(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Hugging Face's cache, where it is there: `HF_HUB_CACHE`, `HF_HOME`, or the usual folder."""
    home = Path(environment.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(environment.get("HF_HUB_CACHE") or home / "hub").expanduser()
    return sorted(cache.glob("models--*/snapshots"))


def find_models(root: Path) -> Iterator[Path]:
    """Folders and files of our families up to two levels below a folder."""
    if not root.is_dir():
        return
    for pattern in _LEVELS:
        for place in sorted(root.glob(pattern)):
            ours = place.is_dir() and _model_type(place) in FAMILIES
            if ours or (place.suffix == SUFFIX and _is_single_file(place)):
                yield place


def examine_model(path: Path, found: Findings, comfyui: Path | None = None) -> None:
    """Adds what a model folder or file holds, or what keeps it from being loaded.

    Args:
        path: The folder or the file.
        found: What to add to.
        comfyui: A ComfyUI, whose tokenizer a single file without one takes.
    """
    fact: dict[str, Any] = {"path": str(path), "family": None, "bytes": _size(path)}
    fact |= {"dtype": None, "decoder_layers": None, "width": None, "complete": False}
    found.facts.append(fact)
    try:
        source = read_source(path, _borrowed_tokenizer(path, comfyui))
        fact["family"] = source.family.model_type
        if source.files is not None:
            check_fits(source.files, source.built, source.family)
    except (ValueError, OSError) as error:
        kind = _model_type(path)
        fact["family"] = kind if isinstance(kind, str) else fact["family"]
        found.problem(str(path), str(error))
        return
    text = source.built.get_text_config()
    fact |= {"decoder_layers": text.num_hidden_layers, "width": text.hidden_size}
    fact |= {"dtype": _dtype(source), "complete": True}
    adapter = find_adapter(path)
    if adapter is not None:
        found.problem(str(path), adapter)


def _dtype(source: Source) -> str:
    if source.files is None:
        return str(source.config["quantization_config"].get("quant_method", "quantised"))
    return "fp8" if source.files.has_fp8 else str(source.files.own_dtype()).removeprefix("torch.")


def _size(path: Path) -> int:
    """Bytes on disk; of a folder, of the files in it."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _is_model(path: Path) -> bool:
    """Whether a place is a model, whole or not, and not a folder of models."""
    if not path.is_dir():
        return True
    return (path / "config.json").exists() or any(path.glob("model*.safetensors"))


def _model_type(folder: Path) -> Any:
    """`model_type` of a folder; None where nothing says it."""
    file = folder / "config.json"
    try:
        kind = read_json(file).get("model_type") if file.is_file() else None
    except (ValueError, OSError):
        return None
    return kind if isinstance(kind, str) else None


def _is_single_file(file: Path) -> bool:
    """Whether a file holds a whole VLM by itself, as ComfyUI's text encoders do."""
    if not file.is_file() or _SHARD.search(file.name):
        return False
    if file.name == "model.safetensors" and (file.parent / "config.json").is_file():
        return False
    try:
        return find_model_type(read_header(file).entries) is not None
    except ValueError:
        return False  # not ours to complain about: nothing says that it is a VLM


def _borrowed_tokenizer(path: Path, comfyui: Path | None) -> Path | None:
    """The tokenizer that a single file without one takes in ComfyUI."""
    if comfyui is None or path.is_dir() or has_tokenizer(path.parent):
        return None
    return comfyui / _TOKENIZER if has_tokenizer(comfyui / _TOKENIZER) else None
