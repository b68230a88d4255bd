"""Layers of hidden states on disk: what was encoded before need not run again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..finite import is_finite

if TYPE_CHECKING:
    from .disk_cache import DiskCache
    from .layer_store import LayerStore


class DiskCacheView:
    """A model's view of a disk cache.

    A layer is known by what decides its numbers: the model's weights and dtype, the token ids, the
    pixels, the version of the weights, and the layer.
    """

    def __init__(self, disk: DiskCache, model: str, width: int):
        """Takes the cache, the model's fingerprint and its width D."""
        self.disk = disk
        self._model = model
        self._width = width

    def fetch(self, store: LayerStore, wanted: Sequence[int]) -> list[int]:
        """Takes the layers that are on disk.

        Args:
            store: Takes the layers found.
            wanted: Layer indices, origin 0, none of them held.

        Returns:
            Those that are not on disk.
        """
        missing = []
        for layer in wanted:
            found = self.disk.get(self._key(store, layer))
            if found is None or not self._fits(found, store, layer):
                missing.append(layer)
                continue
            normed = found.get("normed")
            store.hold(
                layer,
                (found["states"].to(store.device),),
                None if normed is None else normed.to(store.device),
            )
        return missing

    def store(self, store: LayerStore, layers: Sequence[int]) -> None:
        """Puts layers that just ran on disk.

        Args:
            store: Holds them.
            layers: Layer indices, origin 0.
        """
        for layer in layers:
            tensors = {"states": torch.cat(store.state(layer), dim=1)}
            if layer == store.num_layers - 1 and store.normed is not None:
                tensors["normed"] = store.normed
            self.disk.put(self._key(store, layer), tensors)

    def _fits(self, found: dict[str, torch.Tensor], store: LayerStore, layer: int) -> bool:
        """Whether an entry is what `store` writes: another process or version may have put it."""
        last = layer == store.num_layers - 1
        shape = (1, len(store.prompt.ids), self._width)
        return (
            set(found) <= {"states", "normed"}
            and "states" in found
            and all(
                tensor.shape == shape
                and tensor.is_floating_point()
                and (name == "states" or last)
                and is_finite(tensor)
                for name, tensor in found.items()
            )
        )

    def _key(self, store: LayerStore, layer: int) -> str:
        facts = f"{self._model} {store.prompt.key} {store.keyframe} {layer}"
        return hashlib.sha256(facts.encode()).hexdigest()
