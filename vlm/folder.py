"""The files of a model folder in Hugging Face layout, checked before anything large is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not JSON, or not an object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} does not hold a JSON object. Download it again.")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a model folder.

    Raises:
        FileNotFoundError: No folder, or no config.json in it.
        ValueError: It is not a JSON object.
    """
    if not path.is_dir():
        raise FileNotFoundError(
            f"There is no folder {path}. Name a folder that holds a model in Hugging Face layout."
        )
    file = path / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{path} has no config.json, so it is not a model folder in Hugging Face layout. "
            "Download the whole repository of the model, not only its weights."
        )
    return read_json(file)


def check_tokenizer(path: Path) -> None:
    """Checks that a folder has tokenizer files that can be parsed.

    Raises:
        FileNotFoundError: Files are missing.
        ValueError: A file is damaged.
    """
    if (path / "tokenizer.json").is_file():
        if not read_json(path / "tokenizer.json").get("model"):
            raise ValueError(f"{path / 'tokenizer.json'} holds no model. Download it again.")
        return
    missing = [name for name in ("vocab.json", "merges.txt") if not (path / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{path} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt is "
            "there. Copy the tokenizer files of the model into the folder."
        )
    read_json(path / "vocab.json")


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a model folder, as its index lists them.

    Raises:
        FileNotFoundError: There are none, or the index names one that is not there.
        ValueError: A damaged index, or one that points outside the folder.
    """
    index = path / INDEX
    names = ["model.safetensors"]
    if index.is_file():
        listed = read_json(index).get("weight_map")
        names = set(listed.values()) if isinstance(listed, dict) else set()
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{index} lists no files. Download it again.")
        names = sorted(names)
        outside = [name for name in names if Path(name).name != name or "\\" in name]
        if outside:
            raise ValueError(
                f"{index} names {outside[0]!r}, expected files of the same folder. "
                "Download it again from the model's own repository."
            )
    files = [path / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{path} lacks {', '.join(missing)}. Download the missing files of the model; weights "
            "are read as safetensors only."
        )
    return files


def check_weights(path: Path) -> None:
    """Checks that every weight file is whole.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is cut short or is not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    for file in weight_files(path):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{file} is not a whole safetensors file ({error}). The download was cut short; "
                "download it again."
            ) from error
