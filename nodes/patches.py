"""What is put on a CLIP's weights, such as LoRA, by its content: the same after a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from ..vlm.running.fingerprint import add_tensor

# What else a patcher can change a model by: functions, which do not say what they do.
_FUNCTIONS = ("injections", "weight_wrapper_patches")


class _Unknown(Exception):
    """Something that has no content to tell it by."""


def patches_key(patcher: Any) -> str | None:
    """A digest of the patches of ComfyUI's model patcher; "" where there are none.

    ComfyUI's own mark, `patches_uuid`, is drawn at random whenever a LoRA is loaded.

    Returns:
        None where a part cannot be told by its content, such as a function of another pack.
    """
    if any(getattr(patcher, name, None) for name in _FUNCTIONS):
        return None
    if not patcher.patches and not patcher.object_patches:
        return ""
    digest = hashlib.sha256()
    try:
        _add([patcher.patches, patcher.object_patches], digest)
    except _Unknown:
        return None
    return digest.hexdigest()


def _add(value: Any, digest: Any) -> None:
    """Adds a value to the digest: what it is, and everything in it."""
    digest.update(f"{type(value).__module__}.{type(value).__qualname__} ".encode())
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        digest.update(f"{value!r} ".encode())
    elif isinstance(value, torch.Tensor):
        add_tensor(value, digest)
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)} ".encode())
        for item in value:
            _add(item, digest)
    elif isinstance(value, Mapping):
        digest.update(f"{len(value)} ".encode())
        for key in sorted(value, key=str):
            _add(key, digest)
            _add(value[key], digest)
    elif hasattr(value, "weights") and hasattr(value, "calculate_weight"):
        _add(value.weights, digest)  # ComfyUI's LoRA, LoHa, LoKr, ...: their class says which
    else:
        raise _Unknown
