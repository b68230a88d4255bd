"""The layers of one prompt that have run, under one version of the weights."""

from __future__ import annotations

import torch

from ..files.units import in_bytes
from ..finite import is_finite
from ..prompts.prompt import Prompt


class LayerStore:
    """Every layer passed, up to a bound; above it the layers asked for and the deepest one.

    Attributes:
        prompt: What was encoded.
        num_layers: L of the model.
        keyframe: Which version of the weights ran, an index into `Host.keyframes`.
        device: Where layers are held.
        keep_bytes: The bound.
        reused_tokens: Tokens that the last run took from the prefix cache.
    """

    def __init__(
        self, prompt: Prompt, num_layers: int, keyframe: int, device: torch.device, keep_mb: float
    ):
        """Begins empty.

        Args:
            prompt: What is encoded.
            num_layers: L of the model.
            keyframe: Which version of the weights runs.
            device: Where layers are held.
            keep_mb: Bound in MB (2**20 bytes) under which every layer passed is kept.
        """
        self.prompt = prompt
        self.num_layers = num_layers
        self.keyframe = keyframe
        self.device = device
        self.keep_bytes = in_bytes(keep_mb)
        self.reused_tokens = 0
        # A layer is the prefix's part (shared with the prefix cache) and the rest's.
        self._held: dict[int, tuple[torch.Tensor, ...]] = {}
        self._normed: torch.Tensor | None = None
        self._asked: set[int] = set()  # layers that stay, whatever the bound

    @property
    def prefix_key(self) -> str:
        """What the prefix cache knows the prompt's beginning by."""
        return self.prefix_key_of(self.prompt)

    def prefix_key_of(self, prompt: Prompt, length: int | None = None) -> str:
        """The same of a prompt that begins with this one, and of a beginning of some length."""
        return f"{self.keyframe}:{prompt.key_of(prompt.prefix if length is None else length)}"

    @property
    def held(self) -> tuple[int, ...]:
        """Indices of the layers held, ascending."""
        return tuple(sorted(self._held))

    @property
    def depth(self) -> int:
        """The deepest layer held; -1 before anything ran."""
        return max(self._held, default=-1)

    @property
    def normed(self) -> torch.Tensor | None:
        """The last layer [1, N, D] after the final norm, once it ran."""
        return self._normed

    def nearest(self, k: int) -> int | None:
        """The deepest held layer that is not deeper than k, where a run can start."""
        return max((held for held in self._held if held <= k), default=None)

    def state(self, k: int) -> tuple[torch.Tensor, ...]:
        """The parts of a held layer, each [1, n, D], in the order of the tokens."""
        return self._held[k]

    def ask(self, ks: list[int]) -> list[int]:
        """Has these layers stay once they ran, whatever the bound; those that are not held."""
        self._asked.update(ks)
        return sorted({k for k in ks if k not in self._held})

    def to_keep(self, passed: range, layer_bytes: int) -> set[int]:
        """Which of the layers that a run will pass stay: all, or those asked for and the deepest.

        Args:
            passed: Their indices, ascending.
            layer_bytes: Of one layer.
        """
        together = {*self._held, *passed}
        if len(together) * layer_bytes <= self.keep_bytes:
            return set(passed)
        return {k for k in passed if k in self._asked or k == passed[-1]}

    def hold(
        self, k: int, parts: tuple[torch.Tensor, ...], normed: torch.Tensor | None = None
    ) -> None:
        """Keeps a layer just passed; over the bound only those asked for and the deepest stay.

        Args:
            k: Its index.
            parts: Its states [1, n, D] in the order of the tokens.
            normed: Of the last layer, the same [1, N, D] after the final norm.
        """
        self._held[k] = parts
        if normed is not None:
            self._normed = normed
        layer_bytes = sum(part.nbytes for part in parts)
        if len(self._held) * layer_bytes > self.keep_bytes:
            deepest = self.depth
            for other in [o for o in self._held if o not in self._asked and o != deepest]:
                del self._held[other]

    def drop_nonfinite(self) -> int:
        """Lets go of the layers with NaN or Inf; the first of them (-1: none is held)."""
        bad = [k for k in self.held if not all(is_finite(part) for part in self._held[k])]
        for k in bad:
            del self._held[k]
        return bad[0] if bad else -1


def cut(
    parts: tuple[torch.Tensor, ...], kept: tuple[int, ...] | None, start: int, stop: int
) -> torch.Tensor:
    """Some tokens [1, n, D] of a layer, a view of it where that will do.

    Args:
        parts: The layer as it is held, see `LayerStore.state`.
        kept: Indices of the tokens that count; None = all.
        start, stop: Range of those, origin 0.
    """
    if kept is not None:
        rows = kept[start:stop]
        first = min(rows)
        span = cut(parts, None, first, max(rows) + 1)
        return span[:, [row - first for row in rows]]
    pieces = []
    for part in parts:
        pieces.append(part[:, max(start, 0) : max(stop, 0)])
        start, stop = start - part.shape[1], stop - part.shape[1]
    pieces = [piece for piece in pieces if piece.shape[1]]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
