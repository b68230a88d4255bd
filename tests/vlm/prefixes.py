"""Two prompts that begin alike, and an encoding that reuses nothing."""

from __future__ import annotations

from vlm.running.prefix_cache import PrefixCache

FIRST = "a red house"
SECOND = "an entirely different prompt, and longer than the first one 你好"


def fresh(model, *args, layers, **kwargs):
    """The same encoding from nothing."""
    kept, model.engine.prefix_cache = model.prefix_cache, PrefixCache(0)
    try:
        return model.encode(*args, **kwargs).layers(layers)
    finally:
        model.engine.prefix_cache = kept
