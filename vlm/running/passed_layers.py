"""The layers that a run passes: on its device until it ends, then together to where they stay."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .layer_store import LayerStore
from .prefix_cache import Prefix

Parts = tuple[torch.Tensor, ...]  # of a layer, each [1, n, D], in the order of the tokens


class PassedLayers:
    """Layers on their way into a store. What will not stay is not copied.

    On a graphics card a copy to the CPU waits for everything before it, so none is made while
    layers run, and what belongs together goes over in one. Where few layers stay, and elsewhere,
    they go over whole, and the prefix at once; else their beginnings are the prefix's own tensors.

    Attributes:
        keeping: Indices of the layers that stay.
    """

    def __init__(self, store: LayerStore, passed: range, layer_bytes: int):
        """Asks the store what stays.

        Args:
            store: Takes the layers in the end.
            passed: Indices of the layers that the run passes, ascending.
            layer_bytes: Bytes of one layer's states.
        """
        self.keeping = store.to_keep(passed, layer_bytes)
        self._all_stay = len(self.keeping) == len(passed)
        self._store = store
        self._waiting: dict[int, Parts] = {}
        self._latest: tuple[int, Parts] | None = None  # what does not stay, while it is whole
        self._normed: torch.Tensor | None = None

    def add(self, layer: int, known: Parts, hidden: torch.Tensor) -> None:
        """Takes a layer just passed.

        Args:
            layer: Its index.
            known: The prefix's part, which belongs to the prefix.
            hidden: The rest [1, n, D]; copied if it stays, as the next layer may overwrite it.
        """
        if layer in self.keeping:
            self._waiting[layer] = (*known, own_copy(hidden))
        else:
            self._latest = layer, (*known, hidden)

    def add_normed(self, normed: torch.Tensor) -> None:
        """Takes the last layer after the final norm, [1, N, D]."""
        self._normed = normed

    def overwrite(self) -> None:
        """The next layer begins, which may overwrite what entered it."""
        self._latest = None

    def settle(self, prefix: Prefix | None, cache_device: torch.device) -> None:
        """Brings everything to where it stays; of a run that was interrupted the latest layer too.

        Args:
            prefix: The run's, whose states are parts of the layers; None = it has none.
            cache_device: Where its keys and values go.
        """
        if self._latest is not None:
            layer, (*known, hidden) = self._latest
            self._waiting[layer] = (*known, own_copy(hidden))
        device = self._store.device
        move = _mover(device)
        here = all(parts[-1].device == device for parts in self._waiting.values())
        shared = here or self._all_stay
        if prefix is not None:
            if shared:
                prefix.states[:] = [move(state) for state in prefix.states]
            prefix.bring(cache_device, with_states=not shared)
        for layer in sorted(self._waiting):
            parts = self._waiting[layer]
            moved = tuple(map(move, parts)) if shared else (_whole(parts, device),)
            has_norm = layer == self._store.num_layers - 1 and self._normed is not None
            self._store.hold(layer, moved, move(self._normed) if has_norm else None)
        self._waiting, self._latest, self._normed = {}, None, None


def own_copy(part: torch.Tensor) -> torch.Tensor:
    """A copy on the same device that does not hold on to the tensor it was cut from."""
    return part.clone()


def _whole(parts: Parts, device: torch.device) -> torch.Tensor:
    """A layer on a device, in memory of its own; what lies together goes over in one copy."""
    if len(parts) == 1:
        return parts[0].to(device)
    if len({part.device for part in parts}) > 1:
        parts = tuple(part.to(device) for part in parts)
    return torch.cat(parts, dim=1).to(device)


def _mover(device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """Brings tensors to a device; one that is asked for twice is still one tensor."""
    moved: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def move(part: torch.Tensor) -> torch.Tensor:
        if id(part) not in moved:
            moved[id(part)] = part, part.to(device)  # with the part: no other gets its id
        return moved[id(part)][1]

    return move
