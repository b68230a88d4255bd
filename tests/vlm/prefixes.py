"""Two prompts that begin alike, and an encoding that reuses nothing."""

from __future__ import annotations

import pytest

from vlm.running.prefix_cache import PrefixCache

FIRST = "a red house"
SECOND = "an entirely different prompt, and longer than the first one 你好"
# For what does not depend on the family; Qwen3-VL has everything the others have, and DeepStack.
QWEN3 = pytest.mark.parametrize("family", ["qwen3_vl"], indirect=True)


def fresh(model, *args, layers, **kwargs):
    """The same encoding from nothing."""
    kept, model.engine.prefix_cache = model.prefix_cache, PrefixCache(0)
    try:
        return model.encode(*args, **kwargs).layers(layers)
    finally:
        model.engine.prefix_cache = kept
