"""The one file that talks to folder_paths: which models lie where. Reads, never creates."""

from __future__ import annotations

import json
import time
from pathlib import Path

import folder_paths

from ..vlm.families import FAMILIES

MODEL_ROOTS = ("vlm", "VLM", "LLM", "text_encoders")
STATS_ROOT = "vlm_stats"
FILL_ME = "no model found: put a Qwen-VL folder into ComfyUI/models/VLM"
_FRESH_SECONDS = 2.0  # ComfyUI asks for a node's schema many times for one prompt
_listed: tuple[float, dict[str, Path]] = (0.0, {})


def _roots(names: tuple[str, ...]) -> list[Path]:
    """Folders of these names under models/ and in extra_model_paths.yaml, each real path once."""
    roots: dict[tuple[int, int], Path] = {}
    for name in names:
        places = [Path(folder_paths.models_dir) / name]
        if name in folder_paths.folder_names_and_paths:
            places += map(Path, folder_paths.get_folder_paths(name))
        for place in places:
            if place.is_dir():
                status = place.stat()
                roots.setdefault((status.st_dev, status.st_ino), _as_on_disk(place))
    return list(roots.values())


def _as_on_disk(place: Path) -> Path:
    """The folder with the case of its name on disk.

    VLM and vlm are one folder on Windows and macOS, and saved workflows name it as it is.
    """
    same = [
        found
        for found in place.parent.iterdir()
        if found.name.lower() == place.name.lower() and found.samefile(place)
    ]
    return min(same, key=lambda found: found.name != place.name, default=place)


def _is_vlm(folder: Path) -> bool:
    config = folder / "config.json"
    if not config.is_file():
        return False
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("model_type") in FAMILIES
    except (OSError, ValueError, AttributeError):
        return False  # not ours to complain about: the folder may belong to another pack


def _find_models() -> dict[str, Path]:
    found: dict[str, Path] = {}
    seen: set[Path] = set()
    for root in _roots(MODEL_ROOTS):
        for pattern in ("*", "*/*"):
            for folder in sorted(root.glob(pattern)):
                if not _is_vlm(folder) or folder.resolve() in seen:
                    continue
                seen.add(folder.resolve())
                # Forward slashes: a workflow made on Windows names the same model on Linux.
                name = f"{root.name}/{folder.relative_to(root).as_posix()}"
                while name in found:
                    name += "*"
                found[name] = folder
    return found


def models() -> dict[str, Path]:
    """Model folders by the name that the loader shows; two levels below each model root."""
    global _listed
    now = time.monotonic()
    if not _listed[1] or now - _listed[0] > _FRESH_SECONDS:
        _listed = (now, _find_models())
    return _listed[1]


def model_names() -> list[str]:
    """What the loader lists; one entry that says which folder to fill where there is nothing."""
    return list(models()) or [FILL_ME]


def model_folder(name: str) -> Path:
    """The folder of a listed model.

    Raises:
        FileNotFoundError: No such model; names never reach outside the model folders.
    """
    if name not in models():
        places = ", ".join(f"models/{root}" for root in MODEL_ROOTS)
        raise FileNotFoundError(
            f"There is no VLM called {name!r}. Put the model's folder (config.json, tokenizer, "
            f"safetensors) into one of {places}, reload the page and choose it on VLM Loader."
        )
    return models()[name]


def _stats_files() -> dict[str, Path]:
    return {
        file.name: file
        for root in reversed(_roots((STATS_ROOT,)))
        for file in sorted(root.glob("*.safetensors"))
    }


def stats_names() -> list[str]:
    """Names of the saved reference statistics."""
    return list(_stats_files())


def stats_file(name: str) -> Path:
    """The file of saved reference statistics.

    Raises:
        FileNotFoundError: None of that name.
    """
    files = _stats_files()
    if name not in files:
        raise FileNotFoundError(
            f"There are no saved statistics called {name!r}. Choose a file of models/{STATS_ROOT} "
            "on VLM Reference Statistics, or measure them from CONDITIONING."
        )
    return files[name]


def stats_fingerprint(name: str) -> tuple | None:
    """Time and size of saved reference statistics; None where they are missing."""
    file = _stats_files().get(name)
    if file is None:
        return None
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def new_stats_file(name: str) -> Path:
    """Where statistics are saved under a name that a person typed.

    Raises:
        ValueError: A name with a folder in it, or one that no file can have.
    """
    stem = name.strip().removesuffix(".safetensors")
    if not stem or stem.startswith(".") or any(c in stem for c in '/\\:*?"<>|\0'):
        raise ValueError(
            f"{name!r} cannot be a file name. Give save_as on VLM Reference Statistics a plain "
            "name without folders, for example z-image-qwen3-4b."
        )
    return Path(folder_paths.models_dir) / STATS_ROOT / f"{stem}.safetensors"
