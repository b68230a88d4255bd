"""One call of one decoder layer of transformers, in the words that the installed version reads.

Names in the layers' signatures change between versions of transformers; what a layer takes is read
from its own signature, never from a version number.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..families.layer_cache import LayerCache
from ..quoted import reason

# What decoder layers have called the object that takes their keys and values, newest first.
CACHE_NAMES = ("cache", "past_key_values", "past_key_value", "layer_past")

# What Python raises where a call and what is called do not agree. Neither running out of memory nor
# an error of a device is among them: those are RuntimeErrors.
DISAGREEMENTS = (AttributeError, LookupError, TypeError, ValueError)


class CallError(RuntimeError):
    """The installed transformers does not take a call as it is made here."""


@dataclass(frozen=True)
class Places:
    """Where the tokens that run stand.

    Attributes:
        past: Tokens before them, whose keys and values the cache holds.
        positions: int64 [3, 1, S] or [1, S], as the language model takes them.
    """

    past: int
    positions: torch.Tensor


def call_layer(
    layer: torch.nn.Module,
    hidden: torch.Tensor,
    cache: LayerCache | None,
    places: Places,
    arguments: dict[str, Any],
) -> torch.Tensor:
    """Runs a decoder layer of transformers.

    Args:
        layer: The layer.
        hidden: [1, S, D].
        cache: Past keys and values; takes the new ones. None = neither.
        places: Of the S tokens.
        arguments: What the family's layers take beside these; see `Decoder.arguments`.

    Returns:
        [1, S, D].

    Raises:
        CallError: The layer takes or returns something else than what is known here.
    """
    try:
        arguments = arguments | _beside(type(layer), hidden, cache, places)
        _check(type(layer), arguments)
        output = layer(hidden, **arguments)
        # Up to 4.57 some families return a tuple.
        output = output[0] if isinstance(output, tuple) else output
        return _states(layer, output, hidden)
    except DISAGREEMENTS as error:
        raise CallError(f"{type(error).__name__}: {reason(error, 300)}") from error


def cache_name(kind: type[torch.nn.Module]) -> str:
    """The keyword by which layers of this class take a cache.

    Raises:
        TypeError: None that is known here.
    """
    taken = parameters(kind)
    for name in CACHE_NAMES:
        if name in taken:
            return name
    raise TypeError(
        f"{kind.__name__} takes no cache: {', '.join(CACHE_NAMES)} were expected, its forward "
        f"takes {', '.join(taken)}."
    )


def parameters(kind: type[torch.nn.Module]) -> dict[str, inspect.Parameter]:
    """What modules of a class take by its name, whatever decorates their forward."""
    return _parameters(kind.forward)


@functools.cache
def _parameters(forward: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    first, *taken = inspect.signature(forward).parameters.items()  # without `self`
    return dict(taken)


def _beside(
    kind: type[torch.nn.Module], hidden: torch.Tensor, cache: LayerCache | None, places: Places
) -> dict[str, Any]:
    """The cache and what transformers says beside it, as far as layers of this class name it."""
    taken = parameters(kind)
    given: dict[str, Any] = {}
    if cache is not None:
        given[cache_name(kind)] = cache
    if "use_cache" in taken:
        given["use_cache"] = cache is not None
    if "cache_position" in taken:
        last = places.past + hidden.shape[1]
        given["cache_position"] = torch.arange(places.past, last, device=hidden.device)
    # Where it may be left out, only attention over several packed sequences reads it.
    if "position_ids" in taken and taken["position_ids"].default is inspect.Parameter.empty:
        given["position_ids"] = places.positions
    return given


def _check(kind: type[torch.nn.Module], arguments: dict[str, Any]) -> None:
    """Refuses a call that a layer would not understand, or would take for something else.

    Raises:
        TypeError: It does not name one of the arguments, or needs another one.
    """
    taken = parameters(kind)
    strange = [name for name in arguments if name not in taken]
    if strange:
        raise TypeError(f"{kind.__name__} takes no {', '.join(strange)}.")
    needed = [
        name
        for name, parameter in list(taken.items())[1:]  # behind the states
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in arguments
    ]
    if needed:
        raise TypeError(f"{kind.__name__} needs {', '.join(needed)}, which is not known here.")


def _states(layer: torch.nn.Module, output: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What a layer returned, if it is states like those it took.

    Raises:
        TypeError: It is not.
    """
    if isinstance(output, torch.Tensor) and output.shape == hidden.shape:
        return output
    found = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    raise TypeError(
        f"{type(layer).__name__} returns {found}, states {list(hidden.shape)} were expected."
    )
