"""The self-check of every family: its toy model runs as it did when the pack was tested."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ..families import FAMILIES
from ..load import load
from ..report.demo_picture import draw_picture
from ..running.tested_versions import TESTED
from .findings import Findings

LAYERS = 6
ADVICE = f"Update the pack, or run: pip install transformers=={TESTED[-1]}"
CLOSE = 1e-4  # of the largest value, in float32
# What a package that changed may raise, anywhere below a run.
_BROKEN = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def check_family(model_type: str) -> str | None:
    """Runs a family's toy model, with a picture where it sees.

    Args:
        model_type: A key of `FAMILIES`.

    Returns:
        None where all is well, else a sentence that says what is not.
    """
    try:
        model = load("tiny", dtype="float32", family=model_type, layers=LAYERS)
        images = [draw_picture().resize((128, 96))] if FAMILIES[model_type].has_vision else None
        layers = list(range(model.num_layers))
        whole = model.encode("a red house", images).layers(layers)
        again = model.encode("a red house", images).layers(layers)  # from the prefix cache
    except _BROKEN as error:
        return f"The toy model of {FAMILIES[model_type].title} does not run: {error!r}."
    off = (whole - again).abs().max() / whole.abs().max()
    if torch.isfinite(whole).all() and off <= CLOSE:
        return None
    return (
        f"The toy model of {FAMILIES[model_type].title} gives other states when a prompt is "
        f"repeated (off by {float(off):.1e} of the largest value)."
    )


def examine_families(check: Callable[[str], str | None] = check_family) -> Findings:
    """Checks every family.

    Args:
        check: Takes a `model_type`; gives None, or a sentence that says what is wrong.
    """
    found = Findings()
    for model_type, family in FAMILIES.items():
        start = time.perf_counter()
        wrong = check(model_type)
        fact = {"family": model_type, "title": family.title, "works": wrong is None}
        found.facts.append(fact | {"seconds": round(time.perf_counter() - start, 2)})
        if wrong is not None:
            found.problem(model_type, f"{wrong} {ADVICE}")
    return found
