"""Devices by name: only those that compute."""

import pytest
import torch

import vlm
from vlm.devices import torch_device

# What torch knows the names of; one that this machine has is no mistake.
NAMES = ("meta", "xla", "hpu", "vulkan", "ipu", "ve", "fpga", "ort", "mtia", "lazy", "mkldnn",
         "opengl", "opencl", "ideep", "hip", "maia", "privateuseone", "cuda:99", "cuda:-1", "cpu:x",
         "toaster", "", "x" * 5000, "cpu\0", "\ud800")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_computes_nothing_is_no_device(name):
    with pytest.raises(ValueError, match="^There is no device '.*Choose cpu") as caught:
        torch_device(name)
    assert len(str(caught.value)) < 300


def test_every_way_to_a_device(tiny_folder):
    with pytest.raises(ValueError, match="no device 'meta'"):
        vlm.load(tiny_folder("qwen3_vl", 2), "meta")
    with pytest.raises(ValueError, match="no device 'meta'"):
        vlm.load_connector("none.safetensors", device=torch.device("meta"))
    assert torch_device("cpu") == torch_device(torch.device("cpu")) == torch.device("cpu")
