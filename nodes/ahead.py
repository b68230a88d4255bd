"""The next layer's weights on their way to a graphics card while a layer runs."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class _Place:
    """Room on the device for one layer's weights.

    Attributes:
        weights: By their names in the layer.
        turn: Which layer's they are; None = nobody's yet.
    """

    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    turn: int | None = None


class Ahead:
    """Copies weights that stayed behind, one layer ahead of the run, on a stream of its own.

    Two places on the device take turns: the layer that runs reads one, the next layer's weights
    come into the other. Nothing waits on the CPU where the weights lie in pinned memory, which is
    ComfyUI's choice. A run that ends before the last layer has copied one layer in vain.
    """

    def __init__(self) -> None:
        """Knows no layer yet."""
        self._layers: list[weakref.ref[torch.nn.Module]] = []  # they hold this
        self._places: list[_Place] = []
        self._stream: Any = None

    def add(self, layer: torch.nn.Module) -> None:
        """Takes the layer that runs after those taken before."""
        self._layers.append(weakref.ref(layer))

    @contextmanager
    def running(self, stream: Any) -> Iterator[None]:
        """Around a run; the places are given back at its end.

        Args:
            stream: For the copies; None = there is none, and nothing comes ahead.
        """
        self._stream, self._places = stream, [_Place(), _Place()]
        try:
            yield
        finally:
            if stream is not None:  # the weights may go, or be unpinned, from here on
                stream.synchronize()
            self._stream, self._places = None, []

    def take(self, layer: torch.nn.Module, device: torch.device) -> dict[str, torch.Tensor]:
        """Those of a layer's weights that lie elsewhere, on a device; the next layer's start.

        Args:
            layer: One that was added; it runs at once, and before the next call.
            device: Where it runs.

        Returns:
            By name, in the layout they have; to be read until the layer after the next one runs.
        """
        if self._stream is None:
            return {}
        turn = next(turn for turn, known in enumerate(self._layers) if known() is layer)
        weights = _behind(layer, device)
        if weights:
            self._places.reverse()
            if self._places[0].turn != turn:
                self._fill(self._places[0], turn, weights, device)
            _streams(device).current_stream(device).wait_stream(self._stream)
        after = self._layers[turn + 1]() if turn + 1 < len(self._layers) else None
        coming = {} if after is None else _behind(after, device)
        if coming:
            self._fill(self._places[1], turn + 1, coming, device)
        return self._places[0].weights if weights else {}

    def _fill(
        self, place: _Place, turn: int, weights: dict[str, torch.Tensor], device: torch.device
    ) -> None:
        """Starts the copy of a layer's weights into a place, once what read it has run."""
        streams = _streams(device)
        current = streams.current_stream(device)
        if {name: _layout(kept) for name, kept in place.weights.items()} != {
            name: _layout(weight) for name, weight in weights.items()
        }:
            current.wait_stream(self._stream)  # it may still write where others come now
            place.weights = {
                name: torch.empty_like(weight, device=device) for name, weight in weights.items()
            }
        self._stream.wait_stream(current)
        with streams.stream(self._stream):
            for name, weight in weights.items():
                place.weights[name].copy_(weight, non_blocking=True)
        place.turn = turn


def _behind(layer: torch.nn.Module, device: torch.device) -> dict[str, torch.Tensor]:
    """A layer's own weights that are not on a device."""
    return {
        name: weight
        for name, weight in layer._parameters.items()
        if weight is not None and weight.device != device
    }


def _layout(weight: torch.Tensor) -> tuple[Any, ...]:
    """What a copy keeps of a weight beside its values."""
    return weight.dtype, weight.shape, weight.stride()


def _streams(device: torch.device) -> Any:
    """torch's module with the streams of a kind of device."""
    return getattr(torch, device.type)
