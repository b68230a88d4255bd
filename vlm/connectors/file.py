"""Files of trained weights: a state dict out of safetensors, or out of PyTorch's own format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ..files.tensor_file import SAFETENSORS, check_storage, need_names, read_tensor_file
from ..files.whole_file import write_whole
from ..finite import is_finite

# Where checkpoints keep the state dict, and what wrappers of a module put before its keys.
_CONTAINERS = ("state_dict", "model", "module", "connector", "proj")
_PREFIXES = ("module.", "_orig_mod.")
# The part of a diffusion model's checkpoint that is a connector: the rest of it is not read.
_PART = "txtfusion."
_DEEPEST = 8  # containers around a state dict


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, without the container and the prefixes around them.

    Args:
        path: A .safetensors, .pt, .pth or .bin file; a bare state dict, or one inside a container
            such as `{"config": ..., "state_dict": ...}`.

    Returns:
        Name to tensor, on the CPU, in the dtype of the file, in memory of their own.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another kind of file, one named as another kind, one that is cut short, one
            that would run code, or one without tensors.
    """
    path = Path(path)
    tensors = _plain(read_tensor_file(path, _of_interest), path.name)
    need_names(list(tensors), path)
    check_storage(tensors, path)
    return tensors


def write_state_dict(
    tensors: Mapping[str, torch.Tensor],
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors as safetensors, whole or not at all: an older file stays until then.

    Args:
        tensors: Name to tensor; each keeps its dtype.
        path: The file, in a folder that exists. One of the same name is replaced.
        metadata: Of the file; None = only that PyTorch wrote it.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: Another ending than .safetensors.
        OSError: The file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != SAFETENSORS:
        raise ValueError(f"{path.name} does not end in {SAFETENSORS}. Give OUT that ending.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} does not exist. Make it first.")
    # Tensors that share memory, as tied weights do, get their own: safetensors refuses them.
    own = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    write_whole(path, save(own, dict(metadata or {"format": "pt"})))


def _of_interest(names: list[str]) -> list[str]:
    return [name for name in names if _PART in name] or names


def _plain(found: Any, name: str) -> dict[str, torch.Tensor]:
    """The state dict inside what was read."""
    for _ in range(_DEEPEST):  # a pickle can hold itself
        if not isinstance(found, Mapping) or _holds_tensors(found):
            break
        inner = [found[key] for key in _CONTAINERS if isinstance(found.get(key), Mapping)]
        if not inner:
            break
        found = inner[0]
    if not isinstance(found, Mapping) or not _holds_tensors(found):
        kind = "a dict" if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(
            f"{name} holds {kind} without tensors. Expected a state dict, bare or as "
            '{"config": ..., "state_dict": ...}; download the weights, not the configuration.'
        )
    tensors = {str(key): value for key, value in found.items() if isinstance(value, torch.Tensor)}
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _holds_tensors(found: Mapping) -> bool:
    return any(isinstance(value, torch.Tensor) for value in found.values())


def check_values(weights: Mapping[str, torch.Tensor], name: str) -> None:
    """Checks that trained weights are finite floating point numbers.

    Raises:
        ValueError: One is not.
    """
    for key, value in weights.items():
        if not value.is_floating_point():
            raise ValueError(
                f"{name}: {key} is {str(value.dtype).removeprefix('torch.')}, weights are floating "
                "point. Use the file that its publisher released."
            )
        if not is_finite(value):
            raise ValueError(f"{name}: {key} holds NaN or Inf. Download the file again.")
