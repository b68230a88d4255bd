"""Folders that hold no model as it is read here: what they are, and what helps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_ADAPTER = "adapter_config.json"
_OTHER_WEIGHTS = (".bin", ".gguf", ".npz", ".pth", ".pt", ".safetensors")
_LORA = (".lora_A.", ".lora_B.", ".base_layer.")


def where_instead(path: Path) -> str:
    """What to do with a folder that has no config.json, a sentence.

    A folder unpacked into one of the same name, Hugging Face's cache, a pipeline of diffusers and a
    LoRA by itself are told; else the whole repository is missing.

    Args:
        path: A folder.
    """
    if (path / _ADAPTER).exists():
        return (
            "It holds a LoRA adapter alone; merge that into its model (merge_and_unload of peft) "
            "and load the result."
        )
    for pattern in ("snapshots/*", "text_encoder", "*"):
        inside = sorted(file.parent for file in path.glob(f"{pattern}/config.json"))
        if inside and (pattern != "*" or len(inside) == 1):
            return f"{inside[-1]} has one: name that folder."
    return "Download the whole repository of the model, not only its weights."


def weights_instead(path: Path) -> str:
    """Which weights lie in a folder that has none of the names that are read; "" = none."""
    there = sorted(file.name for file in path.iterdir() if file.suffix in _OTHER_WEIGHTS)
    return f" ({there[0]} is there, which is not read)" if there else ""


def check_config(config: Mapping[str, Any], where: Path) -> None:
    """Refuses a folder that MLX quantised.

    Args:
        config: Content of its config.json.
        where: The folder.

    Raises:
        ValueError: It was; says what to download.
    """
    for key in ("quantization", "quantization_config"):
        said = config.get(key)
        if isinstance(said, Mapping) and "group_size" in said and "quant_method" not in said:
            raise ValueError(mlx_message(where))


def check_names(names: Iterable[str], where: Path) -> None:
    """Refuses weights that a LoRA was saved with and not merged into.

    Args:
        names: Of all tensors, as in the files.
        where: The folder or file.

    Raises:
        ValueError: There is one; says how to merge it.
    """
    found = next((name for name in names if any(part in name for part in _LORA)), None)
    if found is not None:
        raise ValueError(
            f"The weights in {where} hold a LoRA that was not merged into them, such as {found}. "
            "Merge it first (merge_and_unload of peft, then save_pretrained)."
        )


def mlx_message(where: Path) -> str:
    """What is said of weights that were written for MLX and do not fit."""
    return (
        f"The weights in {where} were written for MLX, which stores them in a way of its own. "
        "Download the model's original repository, not the one converted for Apple computers."
    )
