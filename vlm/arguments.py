"""Arguments of the library's face, compared with their annotations: a sentence for what differs."""

from __future__ import annotations

import builtins
import functools
import inspect
import math
import numbers
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ForwardRef, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch

from .files.names import path_problem
from .quoted import told

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
# Beyond these nothing counts, and neither torch nor float32, in which all is computed, holds them.
_LARGEST = {int: 2**64, float: 3.4028234663852886e38}
MOST = 1e30  # of a number in a job or a recipe: nothing counts so far
_DIGITS = re.compile(r"[0-9]{1,18}")


def checked(function: Callable[P, R], name: str = "") -> Callable[P, R]:
    """Has a function's arguments compared with their annotations before it runs.

    Numbers of numpy are numbers, which the function gets as Python's own; a bool is none. Elements
    of lists, tuples and mappings are compared too. What an annotation leaves open (`Any`, other
    protocols) is left to the function.

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
            given = signature.bind(*args, **kwargs)
        except TypeError:  # too many, too few, unknown: Python says which
            return function(*args, **kwargs)
        hints = _hints(function)
        for argument, value in given.arguments.items():
            hint = hints.get(argument, Any)
            variadic = signature.parameters[argument].kind is inspect.Parameter.VAR_POSITIONAL
            for one in value if variadic else [value]:
                if not _fits(one, hint):
                    raise TypeError(_message(name or function.__name__, argument, one, hint))
                if _asks_for_path(hint):
                    need_path(one, argument)
            plain = tuple(map(_plain, value)) if variadic else _plain(value)
            given.arguments[argument] = plain
        return function(*given.args, **given.kwargs)

    return call


def _plain(value: Any) -> Any:
    """A number of numpy as Python's own; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def whole(digits: str) -> int | None:
    """A whole number from 0 that a file or a person wrote, or None: it is none, or has too many
    digits to count anything (Python reads none of thousands).

    Args:
        digits: Text.
    """
    return int(digits) if _DIGITS.fullmatch(digits) else None


def need_path(path: Any, name: str) -> None:
    """Refuses what no file can be called, before a system is asked for it.

    Args:
        path: A path, as text or as one, or several of them; all else is let be.
        name: Of the argument, for the message.

    Raises:
        ValueError: It is none; says why.
    """
    for one in path if isinstance(path, list | tuple) else [path]:
        wrong = path_problem(one) if isinstance(one, str | Path) else None
        if wrong is not None:
            raise ValueError(f"`{name}` is {told(str(one))}, no path: {wrong}. Name another one.")


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


def _asks_for_path(hint: Any) -> bool:
    """Whether an annotation is a path's: text is one only where `Path` stands beside it."""
    return hint is Path or Path in get_args(hint)


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
    if getattr(value, "shape", None) == () and issubclass(origin, Iterable):
        return False  # an array of one number, which says that it can be iterated over
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
        return isinstance(value, kind) and not isinstance(value, bool) and _is_in_range(value, hint)
    return isinstance(value, hint)


def _is_in_range(value: Any, hint: type) -> bool:
    """Whether a number is one that can be computed with; what NaN and Inf mean functions say."""
    if isinstance(value, numbers.Integral):
        return abs(int(value)) <= _LARGEST[hint]
    return not _LARGEST[float] < abs(value) < math.inf


def _is_named(value: Any, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(value).__mro__)


def _message(function: str, name: str, value: Any, hint: Any) -> str:
    kind = type(value).__name__
    shown = told(value) if isinstance(value, str | numbers.Real | tuple | list) else ""
    shown = f"{shown} ({kind})" if shown and "…" not in shown else f"a {kind}"
    said = "None" if value is None else shown
    expected = " or ".join(dict.fromkeys(_words(hint, 0)))
    advice = f" {_HINTS[kind]}" if kind in _HINTS else ""
    if any(_is_huge(one) for one in (value if isinstance(value, list | tuple) else [value])):
        advice = f" Numbers are read up to {_LARGEST[float]:.2g}, whole ones up to {_LARGEST[int]}."
    return f"`{name}` of `{function}` is {said}, expected {expected}.{advice}"


def _is_huge(value: Any) -> bool:
    hint = int if isinstance(value, numbers.Integral) else float
    return isinstance(value, numbers.Real) and not _is_in_range(value, hint)


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
