"""What is known of prompts' beginnings: states and key/value pairs of everything before the text.

Attention is causal, so tokens before the typed text do not depend on it: with the same pictures
and another text they need not run again, nor need earlier turns of a conversation. A beginning that
is kept serves prompts that share only a part of it, too. What the vision tower made of a picture
depends on nothing but the picture, and is kept beside them in the same bound.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from ..files.units import in_bytes


@dataclass
class Prefix:
    """The beginning of a prompt, run to some depth.

    Attributes:
        length: Tokens P.
        states: State [1, P, D] that enters each decoder layer, from the embeddings on; one more
            than there are pairs.
        pairs: Keys and values [1, heads, P, head width] of each decoder layer passed.
        shorter: Lengths of beginnings of it that other prompts may have too, by their digests.
    """

    length: int
    states: list[torch.Tensor] = field(default_factory=list)
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    shorter: dict[str, int] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Decoder layers it has passed."""
        return len(self.pairs)

    @property
    def bytes(self) -> int:
        """Bytes it holds."""
        pairs = [tensor for pair in self.pairs for tensor in pair]
        return sum(tensor.nbytes for tensor in [*self.states, *pairs])

    def bring(self, device: torch.device, with_states: bool) -> None:
        """Brings keys and values, and states as well, to where the cache lies, in one copy.

        Args:
            device: Where.
            with_states: Whether states go as well; else they stay where they are.
        """
        count = len(self.states) if with_states else 0
        pairs = [tensor for pair in self.pairs for tensor in pair]
        moved = bring_together([*self.states[:count], *pairs], device)
        self.states[:count], pairs = moved[:count], moved[count:]
        self.pairs[:] = zip(pairs[::2], pairs[1::2], strict=True)

    def cut(self, length: int) -> Prefix:
        """A beginning of it, as views of its tensors."""
        states = [state[:, :length] for state in self.states]
        pairs = [(keys[:, :, :length], values[:, :, :length]) for keys, values in self.pairs]
        return Prefix(length, states, pairs)


@dataclass(frozen=True, eq=False)
class VisionFeatures:
    """What the vision tower made of one picture or video.

    Attributes:
        merged: Features [n, D] after the merge.
        deepstack: One [n, D] per DeepStack level.
    """

    merged: torch.Tensor
    deepstack: tuple[torch.Tensor, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes it holds."""
        return sum(tensor.nbytes for tensor in (self.merged, *self.deepstack))

    def to(self, device: torch.device, copy: bool = False) -> VisionFeatures:
        """The same on a device; a copy does not hold on to what the tower's tensors are part of."""
        every = [self.merged, *self.deepstack]
        if copy and device == self.merged.device:
            every = [tensor.clone() for tensor in every]
        merged, *deepstack = bring_together(every, device)
        return VisionFeatures(merged, tuple(deepstack))


def bring_together(tensors: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Tensors on a device: those that lie elsewhere go over in one copy for each dtype.

    Args:
        tensors: Those from elsewhere live as long as one another: they share their memory.
        device: Where; what lies there stays as it is.
    """
    kinds: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        if tensor.device != device:
            kinds.setdefault(tensor.dtype, []).append(tensor)
    moved = {
        dtype: iter(torch.cat([each.flatten() for each in away]).to(device)
                    .split([each.numel() for each in away]))
        for dtype, away in kinds.items()
    }  # fmt: skip
    return [
        tensor if tensor.device == device else next(moved[tensor.dtype]).view(tensor.shape)
        for tensor in tensors
    ]


_Entry = TypeVar("_Entry", Prefix, VisionFeatures)


class PrefixCache:
    """Prefixes and pictures' features by content, least recently used first out.

    Attributes:
        limit: Bytes it may hold.
    """

    def __init__(self, limit_mb: float = 1024):
        """Sets the bound in MB (2**20 bytes); 0 keeps nothing."""
        self.limit = in_bytes(limit_mb)
        # By kind and key.
        self._entries: OrderedDict[tuple[type, str], Prefix | VisionFeatures] = OrderedDict()

    def __len__(self) -> int:
        """Prefixes held."""
        return sum(kind is Prefix for kind, _ in self._entries)

    @property
    def bytes(self) -> int:
        """Bytes held now, of prefixes and of features."""
        return sum(entry.bytes for entry in self._entries.values())

    def get(self, key: str) -> Prefix | None:
        """The prefix of that digest, which becomes the most recently used."""
        return self._get(Prefix, key)

    def put(self, key: str, prefix: Prefix) -> None:
        """Keeps a prefix, and lets go of the oldest until the bound holds again.

        Those that are beginnings of it and no deeper are not needed any more.
        """
        for shorter in prefix.shorter:
            known = self._entries.get((Prefix, shorter))
            if isinstance(known, Prefix) and known.depth <= prefix.depth:
                self.drop(shorter)
        self._put(key, prefix)

    def find(self, wanted: Sequence[tuple[str, int]], depth: int) -> Prefix | None:
        """The first of some beginnings that is known, which becomes the most recently used.

        Args:
            wanted: Digest and length of each.
            depth: Decoder layers that it must have passed.

        Returns:
            The prefix itself, or a part of a longer one as views of it.
        """
        for key, length in wanted:
            own = self.get(key)
            if own is not None and own.depth >= depth:
                return own
            for place, entry in reversed(self._entries.items()):
                if not isinstance(entry, Prefix) or key not in entry.shorter:
                    continue
                if entry.depth >= depth:
                    self._entries.move_to_end(place)
                    return entry.cut(length)
        return None

    def get_features(self, key: str) -> VisionFeatures | None:
        """The features of the picture of that digest, which become the most recently used."""
        return self._get(VisionFeatures, key)

    def put_features(self, key: str, features: VisionFeatures) -> None:
        """Keeps a picture's features, and lets go of the oldest until the bound holds again."""
        self._put(key, features)

    def drop(self, key: str) -> None:
        """Lets go of one prefix, if it is there."""
        self._entries.pop((Prefix, key), None)

    def _get(self, kind: type[_Entry], key: str) -> _Entry | None:
        entry = self._entries.get((kind, key))
        if not isinstance(entry, kind):
            return None
        self._entries.move_to_end((kind, key))
        return entry

    def _put(self, key: str, entry: Prefix | VisionFeatures) -> None:
        place = type(entry), key
        self._entries[place] = entry
        self._entries.move_to_end(place)
        held = self.bytes
        while self._entries and held > self.limit:
            held -= self._entries.popitem(last=False)[1].bytes

    def clear(self) -> None:
        """Lets go of everything."""
        self._entries.clear()
