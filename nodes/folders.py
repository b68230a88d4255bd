"""The one file that talks to folder_paths: which files lie where.

It reads, and makes no folder but the one of a conditioning to save.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import folder_paths

from ..vlm.files.names import LONGEST, is_file_name
from ..vlm.files.tensor_file import PICKLES, SAFETENSORS
from ..vlm.quoted import told
from ..vlm.weights.safetensors_header import read_header
from ..vlm.weights.single_file import has_tokenizer
from ..vlm.weights.tensor_names import find_family
from .listing import Found, Listing, Look
from .model_files import find_models

MODEL_ROOTS = ("vlm", "VLM", "LLM", "text_encoders")
STATS_ROOT = "vlm_stats"
CONDITIONING_ROOT = "vlm_conditioning"
CONNECTOR_ROOT = "vlm_connectors"
OUTPUT = "output"
_LONGEST_PATH = 1000  # characters of a name with its folders; Linux takes paths of 4096 bytes
NO_CONNECTOR = "no file found: put one into ComfyUI/models/vlm_connectors"
NO_CONDITIONING = "no file found: run Save VLM Conditioning, then press R"


def model_places(*names: str) -> list[str]:
    """Folders of these names under models/ and in extra_model_paths.yaml, there or not."""
    places = []
    for name in names:
        places.append(os.path.join(folder_paths.models_dir, name))
        if name in folder_paths.folder_names_and_paths:
            places += folder_paths.get_folder_paths(name)
    return places


def model_roots(*names: str, look: Look | None = None) -> list[Path]:
    """Those that are there, each real path once; a look watches where others can appear."""
    roots: dict[tuple[int, int], Path] = {}
    for place in map(Path, model_places(*names)):
        if look is not None:
            look.at(str(place.parent))
        if place.is_dir():
            status = place.stat()
            roots.setdefault((status.st_dev, status.st_ino), _as_on_disk(place))
    return list(roots.values())


def quoted(name: str) -> str:
    """A name as a message repeats it, however long."""
    return told(name, LONGEST)


def time_and_size(file: Path | None) -> tuple[int, int] | None:
    """What changes when a file does; None where it is missing."""
    try:
        status = None if file is None else file.stat()
    except OSError:  # gone since it was listed, or out of reach
        return None
    return status and (status.st_mtime_ns, status.st_size)


def _as_on_disk(place: Path) -> Path:
    """The folder with the case of its name on disk.

    VLM and vlm are one folder on Windows and macOS, and saved workflows name it as it is.
    """
    same = [
        found
        for found in place.parent.iterdir()
        if found.name.lower() == place.name.lower() and _is_same(found, place)
    ]
    return min(same, key=lambda found: found.name != place.name, default=place)


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names are of one folder; a link that leads nowhere is of none."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _find_models(look: Look) -> Found:
    return find_models(model_roots(*MODEL_ROOTS, look=look), look)


_MODELS = Listing(_find_models, lambda: model_places(*MODEL_ROOTS))


def models() -> dict[str, Path]:
    """Model folders and files by the name that the loader shows."""
    return _MODELS.all()


def model_names() -> list[str]:
    """Names of the models that are there."""
    return list(models())


def forget_models() -> None:
    """Has the next question look at the folders again: files came."""
    _MODELS.forget()


def model_path(name: str) -> Path:
    """The folder or file of a listed model.

    Raises:
        FileNotFoundError: No such model; names never reach outside the model folders.
        ValueError: A file that is there but holds no VLM; says what it seems to be.
    """
    path = _MODELS.get(name)
    if path is None:
        if (other := _other_file(name)) is not None:
            find_family(read_header(other).entries, name)
        places = ", ".join(f"models/{root}" for root in MODEL_ROOTS)
        raise FileNotFoundError(
            f"There is no VLM called {quoted(name)}. Put the model's folder (config.json, "
            f"tokenizer, safetensors) or a single .safetensors file into one of {places}, reload "
            "the page and choose it on VLM Loader."
        )
    return path


def embedding_folders() -> list[str]:
    """Where ComfyUI's own loaders look for embeddings that a prompt names."""
    return folder_paths.get_folder_paths("embeddings")


def _other_file(name: str) -> Path | None:
    """A safetensors file beside those that are listed, by the name that it would have there."""
    top, *parts = name.split("/")
    if not 1 <= len(parts) <= 2 or not parts[-1].endswith(".safetensors"):
        return None
    if not all(is_file_name(part) for part in parts):
        return None
    files = (root.joinpath(*parts) for root in model_roots(*MODEL_ROOTS) if root.name == top)
    return next((file for file in files if file.is_file()), None)


def tokenizer_folder(model: Path) -> Path | None:
    """The tokenizer that a model does not bring itself: ComfyUI's own of Qwen2.5.

    It is the tokenizer of all our families. Its folder is found beside ComfyUI's code, which is
    not imported for it.

    Args:
        model: A listed folder or file.

    Returns:
        None where the model has its own, or ComfyUI has none.
    """
    if model.is_dir() or has_tokenizer(model.parent):
        return None
    package = importlib.util.find_spec("comfy")
    places = list(package.submodule_search_locations or ()) if package else []
    folders = (Path(place) / "text_encoders" / "qwen25_tokenizer" for place in places)
    return next((folder for folder in folders if has_tokenizer(folder)), None)


def _connector_files(look: Look) -> Found:
    """Files of trained weights by their name below the connector folders."""
    return {
        name: root / name
        for root in reversed(model_roots(CONNECTOR_ROOT, look=look))
        for name in look.below(str(root), (SAFETENSORS, *PICKLES))
    }, {}


_CONNECTORS = Listing(_connector_files, lambda: model_places(CONNECTOR_ROOT))


def connector_names() -> list[str]:
    """What the loader lists; one entry that says which folder to fill where there is nothing."""
    return list(_CONNECTORS.all()) or [NO_CONNECTOR]


def connector_file(name: str) -> Path:
    """A listed file of trained weights.

    Raises:
        FileNotFoundError: None of that name; names never reach outside the folders.
    """
    path = _CONNECTORS.get(name)
    if path is None:
        raise FileNotFoundError(
            f"There is no connector file called {quoted(name)}. Put it (.safetensors, .pt or "
            f".bin) into models/{CONNECTOR_ROOT}, reload the node definitions (key R) and choose "
            "it."
        )
    return path


def connector_fingerprint(name: str) -> tuple | None:
    """Time and size of a connector file; None where it is missing."""
    return time_and_size(_CONNECTORS.get(name))


def _stats_files(look: Look) -> Found:
    return {
        name: root / name
        for root in reversed(model_roots(STATS_ROOT, look=look))
        for name in look.inside(str(root), (SAFETENSORS, ".npz"))[0]
    }, {}


_STATS = Listing(_stats_files, lambda: model_places(STATS_ROOT))


def stats_names() -> list[str]:
    """Names of the saved reference statistics."""
    return list(_STATS.all())


def stats_file(name: str) -> Path:
    """The file of saved reference statistics.

    Raises:
        FileNotFoundError: None of that name.
    """
    path = _STATS.get(name)
    if path is None:
        raise FileNotFoundError(
            f"There are no saved statistics called {quoted(name)}. Choose a file of "
            f"models/{STATS_ROOT} on VLM Reference Statistics, or measure them from CONDITIONING."
        )
    return path


def stats_fingerprint(name: str) -> tuple | None:
    """Time and size of saved reference statistics; None where they are missing."""
    return time_and_size(_STATS.get(name))


def new_stats_file(name: str) -> Path:
    """Where statistics are saved under a name that a person typed.

    Raises:
        ValueError: A name with a folder in it, or one that no file can have.
    """
    stem = name.strip().removesuffix(".safetensors")
    if not is_file_name(stem.rstrip(".")) or stem.startswith("."):
        raise ValueError(
            f"{quoted(name)} cannot be a file name. Give save_as on VLM Reference Statistics a "
            "plain name without folders, for example z-image-qwen3-4b."
        )
    _STATS.forget()
    return Path(folder_paths.models_dir) / STATS_ROOT / f"{stem}.safetensors"


def _saved_conditionings() -> Path:
    return Path(folder_paths.get_output_directory()) / CONDITIONING_ROOT


def _conditioning_places() -> list[str]:
    inputs = folder_paths.get_input_directory()
    return [inputs, str(_saved_conditionings()), *model_places(CONDITIONING_ROOT)]


def _conditioning_files(look: Look) -> Found:
    """Files that may hold a conditioning, by name: input/..., output/..., models/...."""
    places = [
        ("input", Path(folder_paths.get_input_directory())),
        (OUTPUT, _saved_conditionings()),
        *(("models", root) for root in reversed(model_roots(CONDITIONING_ROOT, look=look))),
    ]
    return {
        f"{word}/{name}": root / name
        for word, root in places
        for name in look.below(str(root), (SAFETENSORS,))
    }, {}


_CONDITIONINGS = Listing(_conditioning_files, _conditioning_places)


def conditioning_names() -> list[str]:
    """What Load VLM Conditioning lists; one entry that says what to do where there is nothing."""
    return list(_CONDITIONINGS.all()) or [NO_CONDITIONING]


def conditioning_file(name: str) -> Path:
    """A listed conditioning file.

    Raises:
        FileNotFoundError: None of that name; names never reach outside the folders.
    """
    path = _CONDITIONINGS.get(name)
    if path is None:
        raise FileNotFoundError(
            f"There is no conditioning file called {quoted(name)}. Put it into input or "
            f"models/{CONDITIONING_ROOT}, or save it with Save VLM Conditioning; then reload the "
            "node definitions (key R) and choose it on Load VLM Conditioning."
        )
    return path


def conditioning_fingerprint(name: str) -> tuple | None:
    """Time and size of a conditioning file; None where it is missing."""
    return time_and_size(_CONDITIONINGS.get(name))


def check_conditioning_name(name: str) -> list[str]:
    """Folders and file, without its ending, in a name that a person typed.

    Raises:
        ValueError: A name that leaves the folder, or one that no file can have.
    """
    parts = name[: _LONGEST_PATH + 1].strip().removesuffix(".safetensors").split("/")
    wrong = any(not is_file_name(part.strip().rstrip(".")) or part[0] == "." for part in parts)
    if wrong or len(name) > _LONGEST_PATH:
        raise ValueError(
            f"{quoted(name)} cannot be the name of a file. Give name on Save VLM Conditioning "
            "letters and digits, folders with / if you like, and no .. and none of "
            '\\ : * ? " < > |, for example portraits/style.'
        )
    return parts


def new_conditioning_file(name: str, numbered: bool) -> tuple[str, Path]:
    """Where a conditioning is saved under a name that a person typed; makes the folder.

    Args:
        name: With folders; `%year%` and the like become the time, as in ComfyUI's own Save nodes.
        numbered: A new file that counts up; otherwise always the same one.

    Returns:
        The name under which it is listed, and the file.

    Raises:
        ValueError: As `check_conditioning_name`.
    """
    parts = check_conditioning_name(name)
    root = _saved_conditionings()
    _CONDITIONINGS.forget()
    folder, stem, number, *_ = folder_paths.get_save_image_path("/".join(parts), str(root))
    file = Path(folder) / f"{stem}{f'_{number:05}_' if numbered else ''}.safetensors"
    return f"{OUTPUT}/{file.relative_to(root).as_posix()}", file


def view_entry(file: Path) -> dict[str, str]:
    """A file below the output folder, as ComfyUI's /view takes it."""
    inside = file.relative_to(folder_paths.get_output_directory())
    return {"filename": inside.name, "subfolder": inside.parent.as_posix(), "type": OUTPUT}


def disk_cache_folder() -> Path:
    """Where encoded prompts are kept, for those who ask for it."""
    return Path(folder_paths.get_user_directory()) / "vlm_conditioning" / "cache"
