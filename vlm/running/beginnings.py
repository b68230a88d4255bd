"""What of a prompt's beginning a run takes from the prefix cache, and what it puts there."""

from __future__ import annotations

from .layer_store import LayerStore
from .prefix_cache import Prefix, PrefixCache

# Below this many tokens a prefix costs more to keep than to run again.
SHORTEST_PREFIX = 8


def find_beginnings(
    cache: PrefixCache, store: LayerStore, start: int | None, end: int
) -> tuple[Prefix | None, Prefix | None]:
    """The longest beginning of a prompt that is known, and the one that will be.

    Args:
        cache: What is known.
        store: The prompt, and the version of the weights that runs.
        start: Layer from which the run goes on; None = from the embeddings.
        end: Layer at which it stops.

    Returns:
        What stands for the prompt's first tokens, in layers up to its depth; None = nothing. And
        what the run shall fill and put into the cache: the same, or one that is longer or begins
        empty; None = there is nothing to add.
    """
    prompt = store.prompt
    if prompt.prefix < SHORTEST_PREFIX:
        return None, None
    lengths = [length for length in prompt.shared if length >= SHORTEST_PREFIX]
    keys = {store.prefix_key_of(prompt, length): length for length in lengths}
    known = cache.find([*reversed(keys.items())], start or 0)
    own = known is not None and known is cache.get(store.prefix_key)
    covered = known is not None and known.length == prompt.prefix and known.depth >= end
    prefix = known if own else None
    if not own and not covered and start is None:
        prefix = Prefix(prompt.prefix, shorter=keys)
        prefix.shorter.pop(store.prefix_key)
    if known is not None and not known.depth:
        known = None  # embeddings alone: nothing that a layer could attend to
    return known, prefix
