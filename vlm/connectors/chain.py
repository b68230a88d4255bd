"""Connectors that read one layer: linear layers, norms and scales, one after another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

import torch
from torch.nn import functional as F

from ..arguments import whole

EPS = 1e-5  # torch.nn.LayerNorm's own: a state dict does not say
# A weight [out, in] or [D], and its bias or None.
Step = tuple[torch.Tensor, torch.Tensor | None]


class Chain(torch.nn.Module):
    """Steps on one layer of hidden states.

    A weight with two axes is a linear layer, with an exact GELU between each and the next. A
    weight [D] beside linear layers is a norm: LayerNorm with a bias, RMSNorm without. Alone it is
    a scale per dimension, and the bias a shift.

    Attributes:
        layers_read: None: one layer.
        in_width, width: Widths D it reads and W it gives.
        pooled: 0: it gives no pooled vector.
        num_linear: Linear layers.
        num_norms: Norms.
    """

    layers_read = None
    pooled = 0

    def __init__(self, steps: Iterable[Step]):
        """Takes the steps in the order they run; kept in float32."""
        super().__init__()
        self.weights, self.biases = torch.nn.ParameterList(), torch.nn.ParameterDict()
        for number, (weight, bias) in enumerate(steps):
            self.weights.append(_parameter(weight))
            if bias is not None:
                self.biases[str(number)] = _parameter(bias)
        self.num_linear = sum(weight.ndim == 2 for weight in self.weights)
        self.num_norms = len(self.weights) - self.num_linear if self.num_linear else 0
        self.in_width, self.width = self.weights[0].shape[-1], self.weights[-1].shape[0]

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Maps states [B, N, D] to float32 [B, N, W]."""
        states = states.float()
        left = self.num_linear
        for number, weight in enumerate(self.weights):
            bias = self.biases.get(str(number), None)
            if weight.ndim == 2:
                states, left = F.linear(states, weight, bias), left - 1
                states = F.gelu(states) if left else states
            elif not self.num_linear:
                states = states * weight if bias is None else states * weight + bias
            elif bias is None:
                states = F.rms_norm(states, weight.shape, weight, EPS)
            else:
                states = F.layer_norm(states, weight.shape, weight, bias, EPS)
        return states


def read_chain(weights: Mapping[str, torch.Tensor], name: str) -> Chain:
    """The chain that a state dict holds.

    Args:
        weights: Of `read_state_dict`; `scale` and `shift` are read as `weight` and `bias`.
        name: Of the file, for messages.

    Raises:
        ValueError: Weights that are missing, of another kind, or that do not follow one another.
    """
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in weights.items():
        module, _, kind = key.rpartition(".")
        kind = {"scale": "weight", "shift": "bias"}.get(kind, kind)
        if kind not in ("weight", "bias"):
            raise ValueError(
                f"{name}: {key} belongs to no connector that this pack knows. It reads linear "
                "layers and norms (weight, bias) and X2I's AlignNet."
            )
        modules.setdefault(module, {})[kind] = value
    for module, parts in modules.items():
        if "weight" not in parts:
            raise ValueError(
                f"{name} lacks {f'{module}.weight'.lstrip('.')}, though the bias is there. "
                "Nothing is put in its place; download the whole file."
            )
    _check_sizes(modules, name)
    order = _order({module: parts["weight"] for module, parts in modules.items()})
    for (before, first), (after, second) in pairwise(
        (module, modules[module]["weight"]) for module in order
    ):
        if first.shape[0] != second.shape[-1]:
            raise ValueError(
                f"{name}: {before} gives {first.shape[0]} dimensions and {after} reads "
                f"{second.shape[-1]}, so they do not follow one another. This pack reads linear "
                "layers and norms in a row."
            )
    return Chain((modules[module]["weight"], modules[module].get("bias")) for module in order)


def _check_sizes(modules: Mapping[str, Mapping[str, torch.Tensor]], name: str) -> None:
    for module, parts in modules.items():
        weight, bias = parts["weight"], parts.get("bias")
        if weight.ndim not in (1, 2) or not weight.numel():
            raise ValueError(
                f"{name}: {f'{module}.weight'.lstrip('.')} is {list(weight.shape)}; a linear "
                "layer's weight is [out, in], a norm's [width]."
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(
                f"{name}: {f'{module}.bias'.lstrip('.')} is {list(bias.shape)} beside a weight of "
                f"{list(weight.shape)}. The file is damaged or put together from two."
            )


def _order(weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of modules in the order they run.

    Those of a torch.nn.Sequential are numbers. Among names, linear layers come in the order of
    theirs, and a norm stands behind them (Qwen2VL-Flux, eq. 1), or before where only that fits.
    """
    names = sorted(weights, key=_by_numbers)
    if all(name.rpartition(".")[2].isdigit() for name in names):
        return names
    linear = [name for name in names if weights[name].ndim == 2]
    norms = [name for name in names if weights[name].ndim == 1]
    if linear and len(norms) == 1 and weights[norms[0]].shape[0] != weights[linear[-1]].shape[0]:
        return norms + linear
    return linear + norms


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Sorts 2 before 10."""
    parts = re.findall(r"\d+|\D+", name)
    numbers = [(whole(part), part) for part in parts]
    return [(-1, part) if number is None else (number, "") for number, part in numbers]


def _parameter(value: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(value.to(torch.float32), requires_grad=False)
