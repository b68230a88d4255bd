"""Which folders and files below ComfyUI's model folders are VLMs.

The folders are shared with other packs and with people, so that anything can lie there: what cannot
be read is left out with a line in the log, and the list goes on.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..vlm.families import FAMILIES
from ..vlm.logger import LOG
from ..vlm.weights.safetensors_header import read_header
from ..vlm.weights.tensor_names import find_model_type
from .native_sizes import is_read_by_comfyui

# Two levels of folders, and the layout of Hugging Face's cache in either of them.
_PATTERNS = ("*", "*/*", "models--*/snapshots/*", "*/models--*/snapshots/*")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_known: dict[Path, tuple[tuple[int, int], bool]] = {}  # file: (time and size, is of a VLM)


def find_models(roots: Sequence[Path], every_name: bool = False) -> dict[str, Path]:
    """VLM folders up to two levels below the roots, and single files, by the name that is shown.

    Args:
        roots: Folders of models.
        every_name: Also further names of a place that was found already, such as a link to it.

    Returns:
        Name, with the root's and forward slashes, to the place.
    """
    found: dict[str, Path] = {}
    seen: set[Path] = set()
    for root in roots:
        for place in _places(root):
            real = place.resolve()
            if real in seen and not every_name:
                continue
            seen.add(real)
            # Forward slashes: a workflow made on Windows names the same model on Linux.
            name = f"{root.name}/{place.relative_to(root).as_posix()}"
            while name in found:
                name += "*"
            found[name] = place
    return found


def _places(root: Path) -> Iterator[Path]:
    for pattern in _PATTERNS:
        for place in sorted(root.glob(pattern)):
            doubled = place / place.name  # an archive unpacked into a folder of its own name
            if _is_vlm(place) or _is_vlm_file(place):
                yield place
            elif _is_vlm(doubled):
                yield doubled


def _is_vlm(folder: Path) -> bool:
    """Whether a folder's config.json names a family of ours."""
    return _holds(folder / "config.json", _names_family)


def _names_family(config: Path) -> bool:
    content = json.loads(config.read_text(encoding="utf-8"))
    kind = content.get("model_type") if isinstance(content, dict) else None
    return isinstance(kind, str) and kind in FAMILIES


def _is_vlm_file(file: Path) -> bool:
    """Whether a file is listed by itself.

    The weights of a model folder and parts of sharded ones are not; a GGUF file is, for the loader
    to say what reads it.
    """
    name = file.name.lower()
    if name.endswith(".gguf"):
        return (
            all(part in name for part in ("qwen", "vl")) and "mmproj" not in name and file.is_file()
        )
    if not name.endswith(".safetensors") or _SHARD.search(name):
        return False
    if name == "model.safetensors" and _is_vlm(file.parent):
        return False
    return _holds(file, _names_tensors)


def _names_tensors(file: Path) -> bool:
    """Whether the header of a safetensors file names the tensors of a model that is read."""
    entries = read_header(file).entries
    return find_model_type(entries) is not None or is_read_by_comfyui(file, entries)


def _holds(file: Path, test: Callable[[Path], bool]) -> bool:
    """What a test says of a file; asked once a change, so that nothing is said twice.

    False where the test fails, or for what is no ordinary file: reading a pipe would wait for ever.
    """
    try:
        status = file.stat()
    except (OSError, ValueError):
        return False
    if not stat.S_ISREG(status.st_mode):
        return False
    state = (status.st_mtime_ns, status.st_size)
    known = _known.get(file)
    if known is None or known[0] != state:
        known = _known[file] = (state, _ask(file, test))
    return known[1]


def _ask(file: Path, test: Callable[[Path], bool]) -> bool:
    try:
        return test(file)
    except Exception as error:  # ComfyUI is asked too, and says no more than we what it raises
        LOG.warning("VLM Loader leaves out %s: %s", ascii(str(file)), str(error)[:200])
        return False
