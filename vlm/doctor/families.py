"""The self-check of every family: its toy model runs as it did when the pack was tested."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..families import FAMILIES
from ..load import load
from ..quoted import told
from ..running.self_check import FAILURES, LAYERS, difference
from ..running.versions import TESTED
from .findings import Findings

ADVICE = f"Update the pack, or run: pip install transformers=={TESTED[-1]}"


def check_family(model_type: str) -> str | None:
    """Runs a family's toy model and compares its states with those of the versions tested.

    Args:
        model_type: A key of `FAMILIES`.

    Returns:
        None where all is well, else a sentence that says what is not.
    """
    family = FAMILIES[model_type]
    try:
        toy = load("tiny", dtype="float32", family=model_type, layers=LAYERS)
    except FAILURES as error:
        return f"The toy model of {family.title} does not load: {told(error, 300)}."
    wrong = difference(toy, family)
    if wrong:
        return f"The toy model of {family.title} does not give the states it should ({wrong})."
    if toy.backbone.plain is not None:
        return f"The layers of {family.title} do not run one at a time: it works, but more slowly."
    return None


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
