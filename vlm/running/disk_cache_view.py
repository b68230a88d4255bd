"""Layers of hidden states on disk: what was encoded before need not run again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .disk_cache import DiskCache
    from .hidden_states import HiddenStates


class DiskCacheView:
    """A model's view of a disk cache.

    A layer is known by what decides its numbers: the model's weights and dtype, the token ids, the
    pixels, the version of the weights, and the layer.
    """

    def __init__(self, disk: DiskCache, model: str):
        """Takes the cache and the model's fingerprint."""
        self.disk = disk
        self._model = model

    def fetch(self, states: HiddenStates, wanted: Sequence[int]) -> list[int]:
        """Gives hidden states the layers that are on disk.

        Args:
            states: Take the layers found.
            wanted: Layer indices, origin 0, none of them held.

        Returns:
            Those that are not on disk.
        """
        missing = []
        for layer in wanted:
            found = self.disk.get(self._key(states, layer))
            if found is None:
                missing.append(layer)
                continue
            device = states.hold_device
            normed = found.get("normed")
            states.hold(
                layer,
                (found["states"].to(device),),
                None if normed is None else normed.to(device),
            )
        return missing

    def store(self, states: HiddenStates, layers: Sequence[int]) -> None:
        """Puts layers that just ran on disk.

        Args:
            states: Hold them.
            layers: Layer indices, origin 0.
        """
        for layer in layers:
            tensors = {"states": torch.cat(states.state(layer), dim=1)}
            if layer == states.num_layers - 1 and states.normed is not None:
                tensors["normed"] = states.normed
            self.disk.put(self._key(states, layer), tensors)

    def _key(self, states: HiddenStates, layer: int) -> str:
        facts = f"{self._model} {states.prompt.key} {states.keyframe} {layer}"
        return hashlib.sha256(facts.encode()).hexdigest()
