"""One call of one decoder layer of transformers, in the words that the installed version reads.

Names in the layers' signatures change between versions of transformers; what a layer takes is read
from its own signature, never from a version number.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch

from ..families.layer_cache import LayerCache

# What decoder layers have called the object that takes their keys and values, newest first.
CACHE_NAMES = ("cache", "past_key_values", "past_key_value", "layer_past")


def call_layer(
    layer: torch.nn.Module, hidden: torch.Tensor, cache: LayerCache | None, **arguments: Any
) -> torch.Tensor:
    """Runs a decoder layer of transformers.

    Args:
        layer: The layer.
        hidden: [1, S, D].
        cache: Past keys and values; takes the new ones. None = neither.
        **arguments: What the family's layers take beside these; see `Decoder.arguments`.

    Returns:
        [1, S, D].

    Raises:
        TypeError: The layer takes no cache by any name known here.
    """
    taken = _parameters(type(layer))
    if "use_cache" in taken:
        arguments["use_cache"] = cache is not None
    if cache is not None:
        arguments[cache_name(type(layer))] = cache
    output = layer(hidden, **arguments)
    # Up to 4.57 some families return a tuple.
    return output[0] if isinstance(output, tuple) else output


@functools.cache
def cache_name(kind: type[torch.nn.Module]) -> str:
    """The keyword by which layers of this class take a cache.

    Raises:
        TypeError: None that is known here.
    """
    taken = _parameters(kind)
    for name in CACHE_NAMES:
        if name in taken:
            return name
    raise TypeError(
        f"{kind.__name__} takes no cache: {', '.join(CACHE_NAMES)} were expected, its forward "
        f"takes {', '.join(taken)}."
    )


@functools.cache
def _parameters(kind: type[torch.nn.Module]) -> tuple[str, ...]:
    """Names of what a module's forward takes, whatever decorates it."""
    return tuple(inspect.signature(kind.forward).parameters)
