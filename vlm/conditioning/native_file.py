"""ComfyUI's own conditioning files, those of its Save Conditioning and Load Conditioning.

One entry: its tensor is named ``conditioning``, tensors among the options have the option's name,
those of a list ``name.0``, ``name.1`` and so on; all other options are the JSON object
``conditioning_options`` in the metadata. The rules are those of ComfyUI's
``comfy_extras/nodes_cond.py``; this is written from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from ..arguments import whole

STATES, OPTIONS = "conditioning", "conditioning_options"


def native_names(options: Mapping[str, Any]) -> list[str] | None:
    """What Load Conditioning calls the tensors among some options, in the order met.

    Returns:
        The names; None where these options do not fit into such a file.
    """
    names: list[str] = []
    for key, value in options.items():
        if key == STATES or "." in key:
            return None
        if isinstance(value, torch.Tensor):
            names.append(key)
        elif _are_tensors(value):
            names += [f"{key}.{number}" for number in range(len(value))]
        elif _has_tensor(value):
            return None
    return names


def native_values(options: Mapping[str, Any]) -> str:
    """The options that are no tensors, as Load Conditioning reads them."""
    plain = {key: value for key, value in options.items() if not _has_tensor(value)}
    return json.dumps(plain)


def native_options(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> dict:
    """The options of such a file.

    Raises:
        TypeError, ValueError: They are no JSON object.
    """
    options = dict(json.loads(metadata.get(OPTIONS, "{}")))
    lists: dict[str, dict[int, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, number = key.rpartition(".")
        if (place := whole(number)) is not None:
            lists.setdefault(name, {})[place] = tensor
        elif key != STATES:
            options[key] = tensor
    for name, items in lists.items():
        options[name] = [items[number] for number in sorted(items)]
    return options


def _are_tensors(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(item, torch.Tensor) for item in value)
    )


def _has_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(map(_has_tensor, value))
    return isinstance(value, torch.Tensor)
