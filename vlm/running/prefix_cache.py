"""What is known of prompts' beginnings: states and key/value pairs of everything before the text.

Attention is causal, so tokens before the typed text do not depend on it: with the same pictures
and another text they need not run again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import torch

from ..files.units import MEGABYTE


@dataclass
class Prefix:
    """The beginning of a prompt, run to some depth.

    Attributes:
        length: Tokens P.
        states: State [1, P, D] that enters each decoder layer, from the embeddings on; one more
            than there are pairs.
        pairs: Keys and values [1, heads, P, head width] of each decoder layer passed.
    """

    length: int
    states: list[torch.Tensor] = field(default_factory=list)
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """Decoder layers it has passed."""
        return len(self.pairs)

    @property
    def bytes(self) -> int:
        """Bytes it holds."""
        pairs = [tensor for pair in self.pairs for tensor in pair]
        return sum(tensor.nbytes for tensor in [*self.states, *pairs])


class PrefixCache:
    """Prefixes by content, least recently used first out.

    Attributes:
        limit: Bytes it may hold.
    """

    def __init__(self, limit_mb: float = 1024):
        """Sets the bound in MB (2**20 bytes); 0 keeps nothing."""
        self.limit = int(limit_mb * MEGABYTE)
        self._entries: OrderedDict[str, Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Bytes held now."""
        return sum(prefix.bytes for prefix in self._entries.values())

    def get(self, key: str) -> Prefix | None:
        """The prefix of that digest, which becomes the most recently used."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: str, prefix: Prefix) -> None:
        """Keeps a prefix, and lets go of the oldest until the bound holds again."""
        self._entries[key] = prefix
        self._entries.move_to_end(key)
        held = self.bytes
        while self._entries and held > self.limit:
            held -= self._entries.popitem(last=False)[1].bytes

    def drop(self, key: str) -> None:
        """Lets go of one prefix, if it is there."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Lets go of everything."""
        self._entries.clear()
