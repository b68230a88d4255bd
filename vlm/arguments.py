"""Arguments of the library's face, compared with their annotations: a sentence for what differs."""

from __future__ import annotations

import builtins
import functools
import inspect
import math
import numbers
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ForwardRef, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import torch

P = ParamSpec("P")
R = TypeVar("R")
_WORDS: dict[Any, tuple[str, str]] = {  # one, several
    float: ("a number", "numbers"),
    int: ("a whole number", "whole numbers"),
    str: ("text", "texts"),
    bool: ("True or False", "True or False"),
    Path: ("a path", "paths"),
    types.NoneType: ("None", "None"),
    torch.Tensor: ("a tensor", "tensors"),
}
_HINTS = {  # what a person meant by something else, by its class
    "HiddenStates": "Take tokens out of hidden states first, with `select_layers`.",
    "VLM": "Encode a prompt with the model first: `model.encode(text)`.",
}
# Beyond these nothing counts, and neither torch nor a float holds them.
_LARGEST = {int: 2**64, float: sys.float_info.max}
_LONGEST = 60  # characters of a value in a message


def checked(function: Callable[P, R], name: str = "") -> Callable[P, R]:
    """Has a function's arguments compared with their annotations before it runs.

    Numbers of numpy are numbers, a bool is none. Elements of lists, tuples and mappings are
    compared too. What an annotation leaves open (`Any`, other protocols) is left to the function.

    Args:
        function: With annotations.
        name: What messages call it; "" = its own name.

    Returns:
        The same function, which raises TypeError in words for an argument of another type.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # too many, too few, unknown: Python says which
            return function(*args, **kwargs)
        hints = _hints(function)
        for argument, value in given.items():
            hint = hints.get(argument, Any)
            variadic = signature.parameters[argument].kind is inspect.Parameter.VAR_POSITIONAL
            for one in value if variadic else [value]:
                if not _fits(one, hint):
                    raise TypeError(_message(name or function.__name__, argument, one, hint))
        return function(*args, **kwargs)

    return call


def told(value: Any, most: int = _LONGEST) -> str:
    """A value as a message repeats it: as Python writes it, at most a line.

    Args:
        value: Anything, however large.
        most: Characters; more are cut, with an ellipsis in their place.
    """
    if isinstance(value, str | bytes):
        value = value[: most + 1]
    elif isinstance(value, int) and not -(10**most) < value < 10**most:
        return "too large a number"
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # too deep; a number too long to be written
        text = f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}…"


def need_length(text: str, name: str, most: int) -> None:
    """Refuses text that is longer than any that is meant, before it is taken apart.

    Args:
        text: As it was given.
        name: Of the argument, for the message.
        most: Characters.

    Raises:
        ValueError: It is longer.
    """
    if len(text) > most:
        raise ValueError(
            f"`{name}` is a text of {len(text)} characters, at most {most} are read. Write less."
        )


def need_size(value: float, name: str) -> None:
    """Refuses what is no amount of memory.

    Args:
        value: In any unit.
        name: Of the argument, for the message.

    Raises:
        ValueError: Negative, NaN or Inf.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"`{name}` is {value}, expected a number from 0.")


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as objects; a class that is imported for type checkers alone as its name."""
    return get_type_hints(function, {}, _Names(function.__globals__))


class _Names(dict):
    """What a name in an annotation stands for."""

    def __init__(self, known: dict[str, Any]):
        super().__init__()
        self._known = known

    def __missing__(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        return getattr(builtins, name, None) or type(name, (_Named,), {})


class _Named:
    """A class of which only the name is known here."""


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotation's type; True where the annotation says too little."""
    if hint is Any:
        return True
    origin, inside = get_origin(hint), get_args(hint)
    if isinstance(hint, TypeVar) and hint.__bound__ is not None:
        members = [name for name in vars(hint.__bound__) if not name.startswith("_")]
        return all(hasattr(type(value), name) for name in members)
    if isinstance(hint, TypeVar):
        return not hint.__constraints__ or any(_fits(value, one) for one in hint.__constraints__)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inside)
    if isinstance(hint, ForwardRef | str):  # of a TypeVar's: a text from Python 3.12 on
        return _is_named(value, hint if isinstance(hint, str) else hint.__forward_arg__)
    if origin is None:
        return _is_plain(value, hint)
    if not isinstance(origin, type):
        return True
    if origin is not str and isinstance(value, str | bytes) and issubclass(origin, Iterable):
        return False
    if not isinstance(value, origin):
        return False
    if isinstance(value, Mapping) and len(inside) == 2:
        return all(_fits(k, inside[0]) and _fits(v, inside[1]) for k, v in value.items())
    if isinstance(value, torch.Tensor):
        return not inside or inside[0] in (Any, torch.Tensor)
    if not isinstance(value, Collection):
        return True  # a generator is read once, by the function
    if origin is tuple and Ellipsis not in inside:
        return len(value) == len(inside) and all(map(_fits, value, inside))
    return not inside or all(_fits(one, inside[0]) for one in value)


def _is_plain(value: Any, hint: Any) -> bool:
    if hint is None:
        return value is None
    if not isinstance(hint, type):
        return True
    if issubclass(hint, _Named):
        return _is_named(value, hint.__name__)
    if hint in (int, float):
        kind = numbers.Integral if hint is int else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool):
            return False
        return not isinstance(value, numbers.Integral) or abs(int(value)) <= _LARGEST[hint]
    return isinstance(value, hint)


def _is_named(value: Any, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(value).__mro__)


def _message(function: str, name: str, value: Any, hint: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, int) and abs(value) > _LARGEST[int]:
        said = "too large a number"
    else:
        shown = repr(value) if isinstance(value, str | int | float | tuple | list) else ""
        shown = f"{shown} ({kind})" if shown and len(shown) <= _LONGEST else f"a {kind}"
        said = "None" if value is None else shown
    expected = " or ".join(dict.fromkeys(_words(hint, 0)))
    advice = f" {_HINTS[kind]}" if kind in _HINTS else ""
    return f"`{name}` of `{function}` is {said}, expected {expected}.{advice}"


def _words(hint: Any, several: int) -> list[str]:
    """What an annotation asks for; `several` = 1 for the plural."""
    origin, inside = get_origin(hint), get_args(hint)
    if isinstance(hint, TypeVar) and hint.__bound__ is not None:
        return ["Tokens or HiddenStates"]
    if isinstance(hint, TypeVar):
        return [word for one in hint.__constraints__ for word in _words(one, several)]
    if origin in (Union, types.UnionType):
        return [word for one in inside for word in _words(one, several)]
    if isinstance(hint, ForwardRef | str):
        return [hint if isinstance(hint, str) else hint.__forward_arg__]
    hint = types.NoneType if hint is None else hint
    if hint in _WORDS:
        return [_WORDS[hint][several]]
    if origin is None or not isinstance(origin, type):
        return [getattr(hint, "__name__", str(hint))]
    what = "a mapping" if issubclass(origin, Mapping) else "a list"
    if issubclass(origin, Sequence | Iterable) and inside and len(inside) == 1:
        return [f"{what} of {' or '.join(_words(inside[0], 1))}"]
    return [what if issubclass(origin, Iterable) else "a function"]
