"""What goes to the vision tower: a byte a value, normalised where the tower runs."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vlm.families import FAMILIES
from vlm.pictures.images import QWEN2
from vlm.pictures.patches import Patches, to_patches, to_tiles
from vlm.tiny import TOYS

ELSEWHERE = torch.device("meta")  # stands for another device than the CPU
SEEING = [name for name in TOYS if FAMILIES[name].has_vision]


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEING)
def test_every_family_stores_bytes_and_gives_the_bits_of_float32_rounded_once(tiny, picture, name):
    v = tiny(name, 4)
    (seen,) = v.encode("x", [picture(90, 150)]).prompt.vision_inputs
    patches, rules = seen.patches(), seen.rules
    assert patches.stored.dtype == torch.uint8
    stored = patches.stored.numpy()
    stored = stored.reshape(len(stored), 3, -1)
    mean, std = (np.array(each, np.float32)[:, None] for each in (rules.mean, rules.std))
    want = ((stored * np.float64(1 / 255)).astype(np.float32) - mean) / std
    want = torch.from_numpy(want).view(patches.stored.shape)
    assert torch.equal(patches.pixels, want)
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(patches.normalised(torch.device("cpu"), dtype), want.to(dtype))


class Sent(TorchDispatchMode):
    """Counts the bytes that leave for another device."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and made.device != args[0].device:
            self.bytes += made.nbytes
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_byte_a_value_goes_to_the_device(dtype):
    frame = np.random.default_rng(0).integers(0, 256, (112, 168, 3), dtype=np.uint8)
    for patches in (to_patches([frame, frame], QWEN2), to_tiles([frame], (1, 8, 12), QWEN2)):
        with Sent() as sent:
            values = patches.normalised(ELSEWHERE, dtype)
        assert values.device == ELSEWHERE and values.dtype == dtype
        assert values.shape == patches.pixels.shape
        table = 3 * 256 * dtype.itemsize
        assert sent.bytes == patches.stored.numel() + table


def test_what_came_normalised_stays():
    values = torch.randn(4, 12)
    patches = Patches(values, None, (1, 2, 2))
    assert torch.equal(patches.pixels, values)
    assert torch.equal(patches.normalised(torch.device("cpu"), torch.bfloat16), values.bfloat16())


@pytest.mark.parametrize("name", SEEING)
def test_a_run_normalises_once_in_the_towers_dtype(tiny, picture, monkeypatch, name):
    v = tiny(name, 4)
    asked, normalised = [], Patches.normalised

    def noted(patches, device, dtype):
        asked.append((device, dtype))
        return normalised(patches, device, dtype)

    monkeypatch.setattr(Patches, "normalised", noted)
    v.encode("x", [picture(90, 150, seed=7)]).layer(0)
    assert asked == [(torch.device("cpu"), v.backbone.dtype)]
