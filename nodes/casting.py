"""Layers that run while their weights stay behind: ComfyUI brings the weights for each call."""

from __future__ import annotations

from typing import Any

import comfy.ops
import torch


class _Casting:
    """Put before a layer's own class: the same forward, on weights that were brought over.

    ComfyUI sets `comfy_cast_weights` on the layers that a partial load leaves behind. The weights
    change their device, not their dtype, and the layer's own kernel runs: the result is that of a
    full load, bit for bit.
    """

    comfy_cast_weights = False

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


def make_castable(part: torch.nn.Module) -> bool:
    """Lets ComfyUI leave layers of a language model behind.

    The embedding table stays as it is: it is looked up where it lies.

    Args:
        part: Changed in place: its layers get a class of ours before their own.

    Returns:
        Whether it can be loaded in pieces. Layers quantised by bitsandbytes cannot.
    """
    layers = [layer for layer in part.modules() if _has_own_weight(layer)]
    if any(type(layer).__module__.startswith("bitsandbytes") for layer in layers):
        return False
    classes: dict[type, type] = {}
    for layer in layers:
        if isinstance(layer, torch.nn.Embedding):
            continue
        kind = type(layer)
        layer.__class__ = classes.setdefault(kind, type(kind.__name__, (_Casting, kind), {}))
        layer.weight_function, layer.bias_function = [], []  # ComfyUI's, for patches
        if not hasattr(layer, "bias"):
            layer.bias = None
    return True


def _has_own_weight(layer: torch.nn.Module) -> bool:
    return isinstance(layer._parameters.get("weight"), torch.nn.Parameter)
