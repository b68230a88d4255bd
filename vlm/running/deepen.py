"""Has runs go: from disk what is there, and another way where the first one is not understood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..logger import LOG
from ..quoted import reason
from .decoder_layer import CallError
from .engine import Engine
from .layer_store import LayerStore
from .plain_forward import PlainForward
from .run import Run
from .versions import neither_runs, warn_of_plain_forward

AnyRun = TypeVar("AnyRun", bound=Run)


def deepen(engine: Engine, store: LayerStore, wanted: Sequence[int]) -> None:
    """Brings a store the layers it lacks: those on disk from there, the rest by one run.

    Args:
        engine: The model.
        store: Takes them.
        wanted: Missing layer indices, ascending, origin 0.

    Raises:
        ValueError: NaN or Inf in the states.
        torch.OutOfMemoryError: The run does not fit; says how much it needs.
        CallError: The installed transformers runs neither layers nor a plain forward.
    """
    view = engine.disk_view
    missing = wanted if view is None else view.fetch(store, wanted)
    if view is not None:
        LOG.debug("disk cache: %d of %d layers found", len(wanted) - len(missing), len(wanted))
    if not missing:
        return
    go(lambda: Run(engine, store, missing))
    if view is not None:
        view.store(store, missing)


def go(make: Callable[[], AnyRun]) -> AnyRun:
    """Makes a run and has it go; where layers cannot be run one at a time, in plain forwards.

    Only when those work are they taken from then on, and a warning says so.

    Args:
        make: Makes the run; called again for another try.

    Returns:
        The run that went to its end.

    Raises:
        ValueError: NaN or Inf in the states.
        torch.OutOfMemoryError: It does not fit; says how much it needs.
        CallError: The plain forward fails as well.
    """
    run = make()
    engine = run.engine
    backbone, title = engine.backbone, engine.family.title
    try:
        run.go()
        return run
    except CallError as error:
        why = error
    if backbone.plain is not None:
        raise CallError(neither_runs(title, str(why))) from why
    engine.prefix_cache.clear()  # nobody will read it again
    backbone.plain = PlainForward(backbone.text, engine.family.decoder)
    went = False
    try:
        run = make()
        run.go()
        went = True
    except CallError as error:
        raise CallError(neither_runs(title, f"{why}; {reason(error, 300)}")) from error
    finally:
        if not went:  # nobody was warned, so the next run tries again
            backbone.plain = None
    warn_of_plain_forward(title, str(why))
    return run
