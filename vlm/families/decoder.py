"""How the decoder layers of a family's language model are called, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .layer_cache import GrowingCache, Pair


@dataclass(frozen=True)
class Decoder:
    """Decoder layers that take one rotary embedding and one mask, as Llama's and Qwen's do.

    A family that does it another way overrides these methods.

    Attributes:
        mrope: Positions have three axes (time, row, column); else a picture's tokens count up as
            text does.
        pictures_whole: The tokens of one picture look at each other, those behind them too.
        reuses_prefix: Keys and values of a prompt's beginning stand for that beginning, so it need
            not run again when only the text changes.
    """

    mrope: bool = False
    pictures_whole: bool = False
    reuses_prefix: bool = True

    def prepare(self, text: Any) -> None:
        """Changes a freshly built language model in place."""

    def axes(self, positions: torch.Tensor) -> torch.Tensor:
        """Positions int64 [3, N] as the language model takes them: [3, 1, N] or [1, N]."""
        return positions[:, None, :] if self.mrope else positions[:1]

    def rotary(self, text: Any, hidden: torch.Tensor, positions: torch.Tensor) -> Any:
        """Rotary embedding of positions int64 [3, N] for `hidden` [1, N, D]."""
        embedding = text.rotary_emb.to(hidden.device)  # a buffer, which no partial load moves
        return embedding(hidden, self.axes(positions))

    def mask(self, text: Any, allowed: torch.Tensor | None, hidden: torch.Tensor, past: int) -> Any:
        """What `arguments` takes as a mask.

        Args:
            text: The language model.
            allowed: True where position q may look at position k, [1, 1, S, P + S]; None = plain
                causal attention, which the kernel does by itself without a mask.
            hidden: [1, S, D].
            past: P.
        """
        return allowed

    def arguments(self, text: Any, layer: int, rotary: Any, mask: Any) -> dict[str, Any]:
        """What decoder layer `layer` (origin 0) is called with, beside the states and the cache."""
        return {"position_embeddings": rotary, "attention_mask": mask}

    def growing_cache(self, text: Any, room: int, past: Pair | None, before: Any) -> Any:
        """What one layer remembers while the model writes.

        Args:
            text: The language model.
            room: Positions in all.
            past: Keys and values of a prefix; None where there is none.
            before: What the layer before it has; None for the first one.
        """
        return GrowingCache(room, past)

    def layer_bytes(self, text: Any, tokens: int, itemsize: int) -> int:
        """Bytes that a layer takes beside its weights, where it is not made of linear layers only.

        Args:
            text: The language model.
            tokens: N of the sequence.
            itemsize: Bytes of a number of the residual stream.
        """
        return 0
