"""On a GPU: bytes go up, few copies come down, pads need no kernel, an answer has its room."""

from __future__ import annotations

import gc
import sys

import pytest
import torch
from gpu_model import build, picture
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

import vlm
from vlm.devices import multiplies
from vlm.families import FAMILIES
from vlm.running.backbone import TEXT
from vlm.running.host import Host
from vlm.running.rewrite import Rewriting
from vlm.tiny import TOYS
from vlm.weights import fp8

WORDS = "a red house by the sea at dawn"
CPU = torch.device("cpu")
SEEING = [name for name in TOYS if FAMILIES[name].has_vision]


class Copies(TorchDispatchMode):
    """Bytes of each tensor that goes to a kind of device."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.bytes = kind, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        moved = function is torch.ops.aten._to_copy.default and made.device != args[0].device
        if moved and made.device.type == self.kind:
            self.bytes.append(made.nbytes)
        return made


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", SEEING)
def test_pixels_are_normalised_there_with_the_cpus_bits(cuda, family, dtype):
    v = vlm.load("tiny", dtype=dtype, family=family, layers=2)
    (seen,) = v.encode("x", picture(300)).prompt.vision_inputs
    patches, want = seen.patches(), v.backbone.dtype
    with Copies("cuda") as up:
        values = patches.normalised(cuda, want)
    assert torch.equal(values.cpu(), patches.normalised(CPU, want))
    assert sum(up.bytes) == patches.stored.numel() + 3 * 256 * want.itemsize


def test_one_layer_of_a_picture_takes_three_copies(cuda):
    model = vlm.load("tiny", cuda, "float32")
    h = model.encode(WORDS, picture(300), target="z-image", keep_mb=0)
    with Copies("cpu") as down:
        h.reach(-2)
    large = [size for size in down.bytes if size > 64]  # without single numbers that are looked at
    sys.stdout.write(f"\n{len(down.bytes)} copies to the CPU, {len(large)} of tensors\n")
    assert len(large) <= 3
    again = model.encode(WORDS, picture(300), target="z-image")
    far = (again.layer(-2) - h.layer(-2)).abs().max() / h.layer(-2).abs().max()
    assert again.reused_tokens > 0 and far <= 1e-4  # on what the cache was left


@pytest.mark.parametrize("kernel", [SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3", "llama"])
def test_pads_in_front_are_the_cpus_whatever_the_kernel(cuda, family, kernel):
    options = {"dtype": "float32", "family": family, "layers": 6}
    cpu, gpu = vlm.load("tiny", "cpu", **options), vlm.load("tiny", cuda, **options)
    want = cpu.encode(WORDS, padding="left")
    pads, layers = want.prompt.left, range(want.num_layers)
    every = want.layers(layers)
    with sdpa_kernel(kernel):
        ours = gpu.encode(WORDS, padding="left").layers(layers).cpu()
    assert pads > 0
    for rows in (slice(pads), slice(pads, None)):
        near = (ours[:, :, rows] - every[:, :, rows]).abs().max() / every.abs().max()
        assert near <= 1e-4


def test_cuda_holds_fp8_weights(cuda):
    for stored in fp8.DTYPES.values():
        assert all(multiplies(cuda, dtype, stored) for dtype in (torch.bfloat16, torch.float32))


class Asked(Host):
    """Notes how much room is asked for."""

    def __init__(self):
        self.room = {}

    def bring(self, part, memory_bytes, keyframe=0):
        self.room[part] = memory_bytes


def test_an_answer_has_its_room(cuda, monkeypatch):
    host, more = Asked(), 4000
    model = build(cuda, host=host)

    def stop(*_):
        raise InterruptedError  # keys, values and states have their room before the first token

    monkeypatch.setattr(Rewriting, "_advance", stop)
    peaks, asked = [], []
    for tokens in (16, 16, 16 + more):  # kernels and their workspaces come with the first
        gc.collect()  # what the interrupted run before held
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with pytest.raises(InterruptedError):
            model.rewrite(WORDS, max_tokens=tokens, temperature=1.0, keep_mb=0)
        peaks.append(torch.cuda.max_memory_allocated() - before)
        asked.append(host.room[TEXT])
    taken, room = peaks[2] - peaks[1], asked[2] - asked[1]
    sys.stdout.write(
        f"\n{more} tokens more take {taken / 2**20:.0f} MB, {room / 2**20:.0f} asked\n"
    )
    assert 0 < taken <= room <= 1.5 * taken
