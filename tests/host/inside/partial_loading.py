"""What tests of models that come in pieces share: a limit of memory, and what was brought."""

from __future__ import annotations

import comfy.model_management as management
import comfy.ops
import pytest
import torch

TEXT = "a red house"
LAYERS = 6
DTYPES = ["float32", "bfloat16", "float16"]


@pytest.fixture
def budget(monkeypatch):
    """`budget(host, size)`: ComfyUI takes this CPU for a GPU with room for `size` bytes of text.

    Its own code decides which layers stay behind.
    """

    def limit(host, size: float) -> None:
        def free(device=None, torch_free_too=False):
            left = size - host.patcher.loaded_size()
            return management.minimum_inference_memory() + max(left, 0)

        monkeypatch.setattr(management, "lowvram_available", True)
        monkeypatch.setattr(management, "vram_state", management.VRAMState.NORMAL_VRAM)
        monkeypatch.setattr(management, "is_device_cpu", lambda device: False)
        monkeypatch.setattr(management, "get_free_memory", free)

    return limit


@pytest.fixture
def brought(monkeypatch):
    """The layers whose weights came over for a call; a copy is spoilt once the call is over.

    On one device ComfyUI hands out the weights themselves. A GPU gets copies, in memory that the
    next layer's weights overwrite.
    """
    came = []
    cast, uncast = comfy.ops.cast_bias_weight, comfy.ops.uncast_bias_weight

    def copied(layer, *args, **kwargs):
        weight, bias, stream = cast(layer, *args, **kwargs)
        came.append(layer)
        return weight.clone(), None if bias is None else bias.clone(), stream

    def spoilt(layer, weight, bias, stream):
        for tensor in (weight, bias):
            if tensor is not None:
                tensor.fill_(float("nan"))
        uncast(layer, weight, bias, stream)

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", copied)
    monkeypatch.setattr(comfy.ops, "uncast_bias_weight", spoilt)
    return came


def states(model, picture) -> torch.Tensor:
    """Every layer of a prompt with a picture."""
    h = model.encode(TEXT, images=[picture(70, 90)])
    return h.layers(range(model.num_layers))


def left_behind(model) -> list[torch.nn.Module]:
    """The layers that ComfyUI brings for each call."""
    return [m for m in model.backbone.modules() if getattr(m, "comfy_cast_weights", False)]
