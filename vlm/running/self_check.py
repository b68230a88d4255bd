"""Whether an untested version of transformers gives the numbers that the tested ones gave.

The first time a family is loaded in a process, its toy model runs (a picture, pad tokens in front,
an answer of two tokens) and some of its numbers are compared with committed ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..families import Family
from ..files.json_file import read_json
from ..logger import LOG
from ..quoted import reason, told
from .plain_forward import PlainForward
from .versions import is_tested, warn_of_other_numbers, warn_of_plain_forward

EXPECTED = Path(__file__).with_name("expected_states.json")
LAYERS = 6  # of the toy models
TOLERANCE = 1e-4  # of the largest value compared with; other processors give 1e-6
TEXT, ANOTHER, SYSTEM = "A red house", "A blue house", "You paint."
# How many tokens and values of a layer stand for it.
ROWS, VALUES = 8, 4
# What a version that is not understood may raise anywhere.
FAILURES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip

# By the family's `model_type`: whether it runs in plain forwards.
_verdicts: dict[str, bool] = {}
_lock = threading.RLock()  # the toy model is loaded like every other


def runs_plain(family: Family, load_toy: Callable[[], Any]) -> bool:
    """Whether the layers of a family have to run in one forward under this version.

    Warns once where they do, and where no way gives the numbers of the versions tested.

    Args:
        family: The family.
        load_toy: Loads its toy model of `LAYERS` decoder layers in float32, as a `vlm.model.VLM`.
    """
    if is_tested():
        return False
    with _lock:
        if family.model_type not in _verdicts:
            _verdicts[family.model_type] = False  # what its toy model, loading now, is told
            _verdicts[family.model_type] = _check(family, load_toy)
        return _verdicts[family.model_type]


def forget() -> None:
    """Has every family checked again."""
    with _lock:
        _verdicts.clear()


def _check(family: Family, load_toy: Callable[[], Any]) -> bool:
    """Compares both ways with what is expected; whether the plain forward is the one to take."""
    try:
        toy = load_toy()
    except FAILURES as error:
        warn_of_other_numbers(family.title, f"its toy model: {told(error, 300)}")
        return False
    wrong = difference(toy, family)
    if not wrong:
        LOG.debug("%s: the self-check found the expected numbers", family.title)
        return toy.backbone.plain is not None  # if so, it was warned of where it happened
    if toy.backbone.plain is None:
        toy.backbone.plain = PlainForward(toy.backbone.text, family.decoder)
        if not difference(toy, family):
            warn_of_plain_forward(family.title, wrong)
            return True
        toy.backbone.plain = None
    warn_of_other_numbers(family.title, wrong)
    return False


def difference(toy: Any, family: Family) -> str:
    """What differs from the committed numbers; "" = nothing.

    Args:
        toy: The family's toy model, a `vlm.model.VLM` of `LAYERS` decoder layers in float32.
        family: The family.
    """
    expected = read_json(EXPECTED)[family.model_type]
    try:
        found = measure(toy)
    except FAILURES as error:
        return f"{type(error).__name__}: {reason(error, 300)}"
    for what, layers in expected.items():
        for layer, want in enumerate(layers):
            have = found[what][layer]
            off = max(abs(a - b) for a, b in zip(have, want, strict=True))
            if not off <= TOLERANCE * max(map(abs, want)):  # NaN is no number either
                return f"{what}, layer {layer}: off by {off:.2g}"
    return ""


def measure(toy: Any) -> dict[str, list[list[float]]]:
    """Some numbers of every layer of a toy model, by what ran.

    Args:
        toy: A `vlm.model.VLM` of `LAYERS` decoder layers in float32.
    """
    toy.prefix_cache.clear()
    pictures = [_picture()] if toy.family.has_vision else None
    runs = {
        "a prompt": toy.encode(TEXT, pictures, system=SYSTEM),
        "pad tokens in front": toy.encode(TEXT, pictures, system=SYSTEM, padding="left"),
    }
    found = {what: _numbers(states) for what, states in runs.items()}
    # Behind a prefix that is known by now, token by token.
    written = toy.rewrite(ANOTHER, pictures, system=SYSTEM, max_tokens=2, temperature=0)
    found["an answer"] = _numbers(written.states)
    return found


def _picture() -> torch.Tensor:
    """A picture [64, 64, 3], the same everywhere."""
    return ((torch.arange(64 * 64 * 3) * 7919) % 256).reshape(64, 64, 3).float() / 255


def _numbers(states: Any) -> list[list[float]]:
    """Of each layer the last tokens' lengths, and some values of the last one."""
    layers = []
    for layer in states.layers(range(states.num_layers)).unbind(1):
        rows = layer[0, -ROWS:].double()
        layers.append([*rows.norm(dim=-1).tolist(), *rows[-1, :VALUES].tolist()])
    return layers
