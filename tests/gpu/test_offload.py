"""A Hugging Face model as ComfyUI's guest on a GPU: room for others, partial loads, return.

Needs a GPU and ComfyUI's own Python with pytest in it, started in the repository's root:
python -m pytest tests/gpu -s
"""

from __future__ import annotations

import gc
import importlib
import sys
import types
from pathlib import Path

import pytest
import torch
from gpu_model import build, picture

import vlm

ROOT = Path(__file__).parents[2]
GB = 2**30
WORDS = "a red house by the sea"


@pytest.fixture(scope="module")
def management(cuda):
    """comfy.model_management of the ComfyUI that this Python belongs to."""
    sys.path.insert(0, str(ROOT / "tests" / "host"))
    find = importlib.import_module("comfy_find")
    checkout = find.find_comfyui()
    if checkout is None:
        pytest.skip(find.HOW_TO)
    sys.path.insert(0, str(checkout.path))
    try:
        return importlib.import_module("comfy.model_management")
    except ImportError as error:
        pytest.skip(f"run this with the Python of {checkout.path}: {error}")


@pytest.fixture(scope="module")
def host(management):
    """Our side of the memory management, whose module the other tests import by its name."""
    pack = types.ModuleType("pack")
    pack.__path__ = [str(ROOT)]
    sys.modules.setdefault("pack", pack)
    return importlib.import_module("pack.nodes.devices").ComfyHost("gpu")


@pytest.fixture(scope="module")
def model(host):
    """The model, its weights in RAM."""
    return build(torch.device("cpu"), host=host)


def weights_of(model) -> int:
    return sum(weight.nbytes for weight in model.backbone.parameters())


def encode(model) -> torch.Tensor:
    return model.encode(WORDS, picture(512), depth=-1).layer(-1).cpu()


def allocated() -> int:
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


def test_the_weights_go_and_come_back(model, management, cuda):
    before = allocated()
    first = encode(model)
    loaded = allocated() - before
    assert loaded >= 0.9 * weights_of(model)
    management.free_memory(1e30, cuda)
    left = allocated() - before
    again = encode(model)
    sys.stdout.write(f"\nloaded {loaded / GB:.2f} GB, after making room {left / GB:.3f} GB\n")
    assert left <= 0.02 * loaded
    assert torch.equal(first, again)


def test_with_little_room_layers_stay_behind_and_nothing_changes(model, management, cuda):
    whole = encode(model)
    management.unload_all_models()
    allocated()
    text = model.host.patcher
    room = text.model_size() // 2 + management.minimum_inference_memory()
    free = management.get_free_memory(cuda)
    ballast = torch.empty(int(free - room), dtype=torch.uint8, device=cuda)
    try:
        partly = encode(model)
        on_gpu = text.loaded_size()
    finally:
        del ballast
        allocated()
    sys.stdout.write(f"\n{on_gpu / GB:.2f} of {text.model_size() / GB:.2f} GB were on the GPU\n")
    assert 0 < on_gpu < text.model_size()
    assert torch.equal(whole, partly)


def test_experts_left_in_ram_come_ahead_with_the_same_bits(host, management, cuda, monkeypatch):
    """As with --novram, where every layer stays behind."""
    devices, ahead = (
        importlib.import_module(f"pack.nodes.{name}") for name in ("devices", "ahead")
    )
    own, layers, copied = devices.ComfyHost("gpu"), 6, []
    v = vlm.load("tiny", dtype="bfloat16", family="qwen3_vl_moe", layers=layers, host=own)
    want = v.encode(WORDS, picture(128)).layer(-1).cpu()
    management.unload_all_models()
    monkeypatch.setattr(management, "vram_state", management.VRAMState.NO_VRAM)
    fill = ahead.Ahead._fill

    def noted(self, place, turn, *more):
        copied.append(turn)
        fill(self, place, turn, *more)

    monkeypatch.setattr(ahead.Ahead, "_fill", noted)
    v.prefix_cache.clear()
    assert torch.equal(v.encode(WORDS, picture(128)).layer(-1).cpu(), want)
    assert copied == list(range(layers))
    management.unload_all_models()
