"""Which folders and files below ComfyUI's model folders are VLMs.

The folders are shared with other packs and with people, so that anything can lie there: what cannot
be read is left out with a line in the log, and the list goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..vlm.families import FAMILIES
from ..vlm.weights.folder import what_runs
from ..vlm.weights.safetensors_header import read_header
from ..vlm.weights.tensor_names import find_model_type
from .listing import Found, Look, belongs
from .native_sizes import is_read_by_comfyui

_ENDINGS = (".safetensors", ".gguf")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_WHOSE = "VLM Loader"


def find_models(roots: Sequence[Path], look: Look) -> Found:
    """VLM folders up to two levels below the roots, and single files, by the name that is shown.

    Args:
        roots: Folders of models.
        look: Through which they are looked at.

    Returns:
        Name, with the root's and forward slashes, to the place; and the same for further names of
        places that were found already, such as a link to one, which a saved workflow may hold.
    """
    shown: dict[str, Path] = {}
    others: dict[str, Path] = {}
    seen: set[tuple[int, int]] = set()
    for root in roots:
        for inside in _places(str(root), look):
            place = root / inside
            status = place.stat()
            # Forward slashes: a workflow made on Windows names the same model on Linux.
            name = f"{root.name}/{inside}"
            known = (status.st_dev, status.st_ino) in seen
            names = others if known else shown
            while name in names:
                name += "*"
            names[name] = place
            seen.add((status.st_dev, status.st_ino))
    return shown, others


def _places(root: str, look: Look) -> Iterator[str]:
    """Names of models below a root, with forward slashes: one level, two, Hugging Face's cache."""
    files, folders = look.inside(root, _ENDINGS)
    yield from _models(root, "", files, folders, look)
    deeper: list[str] = []
    for top in folders:
        files, inner = look.inside(f"{root}/{top}", _ENDINGS)
        deeper += [f"{top}/{name}" for name in inner]
        yield from _models(root, f"{top}/", files, inner, look)
    for place in [*folders, *deeper]:
        if place.rpartition("/")[2].startswith("models--"):
            _, versions = look.inside(f"{root}/{place}/snapshots", _ENDINGS)
            yield from _models(root, f"{place}/snapshots/", [], versions, look)


def _models(
    root: str, above: str, files: Sequence[str], folders: Sequence[str], look: Look
) -> Iterator[str]:
    """Those that are models, in the order of their names.

    Below the first level also one in a folder of its own name, as an archive is unpacked.
    """
    for name in sorted([*files, *folders]):
        place = f"{above}{name}"
        if name in files:
            if _is_vlm_file(f"{root}/{place}", look):
                yield place
        elif _is_vlm(f"{root}/{place}", look):
            yield place
        elif above and _is_vlm(f"{root}/{place}/{name}", look):
            yield f"{place}/{name}"


def _is_vlm(folder: str, look: Look) -> bool:
    """Whether a folder's config.json names a family of ours."""
    return belongs(f"{folder}/config.json", _names_family, look, _WHOSE)


def _names_family(config: Path) -> bool:
    content = json.loads(config.read_text(encoding="utf-8"))
    kind = what_runs(content).get("model_type") if isinstance(content, dict) else None
    return isinstance(kind, str) and kind in FAMILIES


def _is_vlm_file(file: str, look: Look) -> bool:
    """Whether a file is listed by itself.

    The weights of a model folder and parts of sharded ones are not; a GGUF file is, for the loader
    to say what reads it.
    """
    folder, _, name = file.rpartition("/")
    name = name.lower()
    if name.endswith(".gguf"):
        return (
            all(part in name for part in ("qwen", "vl"))
            and "mmproj" not in name
            and look.file(file) is not None
        )
    if not name.endswith(".safetensors") or _SHARD.search(name):
        return False
    if name == "model.safetensors" and _is_vlm(folder, look):
        return False
    return belongs(file, _names_tensors, look, _WHOSE)


def _names_tensors(file: Path) -> bool:
    """Whether the header of a safetensors file names the tensors of a model that is read."""
    entries = read_header(file).entries
    return find_model_type(entries) is not None or is_read_by_comfyui(file, entries)
