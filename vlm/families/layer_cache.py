"""Keys and values of one decoder layer, kept for the tokens to come."""

from __future__ import annotations

from typing import Any

import torch

Pair = tuple[torch.Tensor, torch.Tensor]  # keys and values


class LayerCache:
    """Keys and values of one decoder layer for the positions before the ones that run.

    Stands where transformers passes its cache, for a single call of a single layer.
    """

    def __init__(self, past: tuple[torch.Tensor, torch.Tensor] | None = None):
        """Takes the past keys and values, each [1, heads, P, head width], or none."""
        self.past = past
        self.whole: tuple[torch.Tensor, torch.Tensor] | None = None  # the past and the new ones

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts the past before new keys and values; called by the layer's attention.

        Beside them every version of transformers says other things (which layer, options).
        """
        if self.past is not None:
            keys, values = (
                torch.cat(both, dim=2) for both in zip(self.past, (keys, values), strict=True)
            )
        self.whole = (keys, values)
        return keys, values

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """Positions it holds; versions of transformers ask for one layer or another."""
        return 0 if self.past is None else self.past[0].shape[2]

    @property
    def before(self) -> tuple[Any, ...]:
        """The past as ComfyUI's layers take it: keys, values and how many; () = none."""
        return () if self.past is None else (*self.past, self.past[0].shape[2])

    def after(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        """Takes what ComfyUI's layers give back: the past and the new ones, so many in all."""
        self.whole = (keys[:, :, :length], values[:, :, :length])


class GrowingCache(LayerCache):
    """Keys and values of one decoder layer with room for those to come, written in place."""

    def __init__(self, room: int, past: tuple[torch.Tensor, torch.Tensor] | None = None):
        """Makes room for so many positions in all, the past included."""
        super().__init__()
        self._room = room
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None
        self._length = 0
        if past is not None:
            self.update(*past)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes new keys and values behind the past; called by the layer's attention."""
        if self._buffers is None:
            batch, heads, _, width = keys.shape
            shape = batch, heads, self._room, width
            self._buffers = keys.new_empty(shape), values.new_empty(shape)
        end = self._length + keys.shape[2]
        for buffer, new in zip(self._buffers, (keys, values), strict=True):
            buffer[:, :, self._length : end] = new
        return self._filled(end)

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """Positions it holds."""
        return self._length

    @property
    def before(self) -> tuple[Any, ...]:
        """Their buffers have room, so ComfyUI's layers write into them."""
        return () if self._buffers is None else (*self._buffers, self._length)

    def after(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        """The first ones are copied into the buffers; later ones are there already."""
        if self._buffers is None:
            self.update(keys, values)
        self._filled(length)

    def _filled(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Notes how many positions are in the buffers; these."""
        if self._buffers is None:
            raise AttributeError("There are no buffers yet.")
        keys, values = self._buffers
        self._length, self.whole = length, (keys[:, :, :length], values[:, :, :length])
        return self.whole
