"""Layers that run while their weights stay behind: ComfyUI brings the weights for each call."""

from __future__ import annotations

from typing import Any

import comfy.ops
import torch

from .ahead import Ahead


class _Casting:
    """Put before a layer's own class: the same forward, on weights that were brought over.

    ComfyUI sets `comfy_cast_weights` on the layers that a partial load leaves behind. The weights
    change their device, not their dtype, and the layer's own kernel runs: the result is that of a
    full load, bit for bit.
    """

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Runs the layer where `hidden` is."""
        if not self.comfy_cast_weights:
            return super().forward(hidden, *args, **kwargs)
        kept = dict(self._parameters)
        dtypes = {"dtype": self.weight.dtype}
        if self.bias is not None:
            dtypes["bias_dtype"] = self.bias.dtype
        weight, bias, stream = comfy.ops.cast_bias_weight(
            self, device=hidden.device, offloadable=True, **dtypes
        )
        self._parameters.update(weight=weight)
        if bias is not None:
            self._parameters.update(bias=bias)
        try:
            return super().forward(hidden, *args, **kwargs)
        finally:
            self._parameters.clear()
            self._parameters.update(kept)
            comfy.ops.uncast_bias_weight(self, weight, bias, stream)


class _Bringing:
    """Put before the class of a layer whose parameters have names of their own.

    Such are all experts of a feed-forward in two tensors, and linear attention, which also reads
    the weight of its convolution without calling it. What is not where the layer runs is brought
    for the call.

    Attributes:
        ahead: What brings large weights while the layer before runs; None = this one's are small.
    """

    ahead: Ahead | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the layer where its input is."""
        device = (args[0] if args else kwargs["hidden_states"]).device
        owners = [self, *(part for part in self.children() if isinstance(part, torch.nn.Conv1d))]
        kept = [(owner, dict(owner._parameters)) for owner in owners]
        try:
            if self.ahead is not None:
                self._parameters.update(self.ahead.take(self, device))
            for owner in owners:
                owner._parameters.update(
                    (name, bring(tensor, device))
                    for name, tensor in owner._parameters.items()
                    if tensor is not None
                )
            return super().forward(*args, **kwargs)
        finally:
            for owner, parameters in kept:
                owner._parameters.update(parameters)


def bring(weight: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A weight on a device: itself where it is there already."""
    return weight.to(device)


def make_castable(part: torch.nn.Module, ahead: Ahead) -> bool:
    """Lets ComfyUI leave layers of a language model behind.

    The embedding table stays as it is: it is looked up where it lies.

    Args:
        part: Changed in place: its layers get a class of ours before their own.
        ahead: Takes those whose weights are large and come under names of their own.

    Returns:
        Whether it can be loaded in pieces. Layers quantised by bitsandbytes cannot.
    """
    layers = [layer for layer in part.modules() if _names(layer)]
    if any(type(layer).__module__.startswith("bitsandbytes") for layer in layers):
        return False
    classes: dict[type, type] = {}
    for layer in layers:
        if isinstance(layer, torch.nn.Embedding | torch.nn.Conv1d):
            continue
        kind, known = type(layer), _names(layer) <= {"weight", "bias"}
        before = _Casting if known else _Bringing
        layer.__class__ = classes.setdefault(kind, type(kind.__name__, (before, kind), {}))
        if not known and any(_names(inner) for inner in layer.children()):
            continue  # ComfyUI moves whole layers only: it leaves what this one has beside them
        if not known:
            layer.ahead = ahead
            ahead.add(layer)
        layer.comfy_cast_weights = False
        layer.weight_function, layer.bias_function = [], []  # ComfyUI's, for patches
        for name in {"weight", "bias"} - _names(layer):
            setattr(layer, name, None)
    return True


def _names(layer: torch.nn.Module) -> set[str]:
    """Names of a layer's own parameters."""
    return {name for name, weight in layer._parameters.items() if weight is not None}
