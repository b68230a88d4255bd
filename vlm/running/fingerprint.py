"""What a model is, in a digest: for caches that outlive it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import torch

from ..weights.fp8 import ScaledEmbedding, ScaledLinear
from .backbone import TEXT, Backbone

VERSION = 1  # of what is computed from the same weights and tokens; raise it when that changes
_VALUES = 64  # per place that is looked at


def fingerprint(
    backbone: Backbone,
    patches: str = "",
    device: torch.device | None = None,
    unpatched: Mapping[int, torch.Tensor] | None = None,
) -> str:
    """A digest of a model's weights and of what else decides its numbers.

    Of each tensor three stretches are read, not all of it: that takes milliseconds where the whole
    would take as long as loading, and another training run changes every tensor.

    Args:
        backbone: The model.
        patches: What is put on the weights while they run, such as LoRA.
        device: Where they run, which need not be where they lie now; None = it is.
        unpatched: Weights without patches, by the `id` of the parameter that holds them patched.

    Returns:
        64 hexadecimal digits, the same in every process.
    """
    transformers = sys.modules.get("transformers")
    facts = (
        VERSION,
        type(backbone).__name__,
        torch.__version__,
        getattr(transformers, "__version__", ""),
        (device or backbone.device_of(TEXT)).type,
        str(backbone.dtype),
        patches,
    )
    digest = hashlib.sha256(repr(facts).encode())
    for part in (backbone.visual, backbone.hearing, backbone.text):
        if part is None:
            continue
        for name, layer in part.named_modules():
            if isinstance(layer, ScaledLinear | ScaledEmbedding):
                digest.update(f"{name} {layer.scale}".encode())
        for name, weight in part.named_parameters():
            digest.update(f"{name} ".encode())
            add_tensor((unpatched or {}).get(id(weight), weight), digest)
    return digest.hexdigest()


def add_tensor(tensor: torch.Tensor, digest: Any) -> None:
    """Adds a tensor's shape, dtype and three stretches of its values to a digest of hashlib."""
    # ComfyUI's quantised tensors hold what is on disk under this name.
    stored = getattr(tensor, "_qdata", tensor).detach()
    digest.update(f"{tuple(stored.shape)} {stored.dtype}".encode())
    for values in _stretches(stored):
        digest.update(values.to("cpu", torch.float32).numpy().tobytes())


def _stretches(weight: torch.Tensor) -> list[torch.Tensor]:
    """Values at the beginning, in the middle and at the end of a tensor."""
    if weight.ndim == 0 or not weight.numel():
        return [weight.reshape(-1)]
    if weight.ndim == 1:
        middle = weight.shape[0] // 2
        return [weight[:_VALUES], weight[middle : middle + _VALUES], weight[-_VALUES:]]
    rows = (0, weight.shape[0] // 2, weight.shape[0] - 1)
    return [weight[row].reshape(-1)[:_VALUES] for row in rows]
