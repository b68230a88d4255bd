"""Every family on a CUDA device: the same states, answers and connectors as on the CPU."""

from __future__ import annotations

import pytest
import torch

import vlm
from vlm.families import FAMILIES
from vlm.tiny import TOYS

LAYERS = 6
WORDS = "a red house by the sea at dawn"


@pytest.fixture(autouse=True)
def full_precision():
    """Convolutions round to TF32 unless told otherwise, which the CPU does not."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(params=list(TOYS))
def pair(request, cuda):
    """The same toy model on the CPU and on the GPU."""
    options = {"dtype": "float32", "family": request.param, "layers": LAYERS}
    return vlm.load("tiny", "cpu", **options), vlm.load("tiny", cuda, **options)


def pictures(model):
    generator = torch.Generator().manual_seed(1)
    shapes = [(96, 128, 3), (64, 64, 3)] if FAMILIES[model.family.model_type].has_vision else []
    return [torch.rand(shape, generator=generator) for shape in shapes]


def far(a, b):
    """The largest difference as a share of the largest value."""
    return ((a.cpu().double() - b.double()).abs().max() / b.double().abs().max()).item()


@pytest.mark.parametrize("padding", ["none", "left"])
def test_states_are_the_cpus(pair, padding):
    ours, want = ((m.encode(WORDS, pictures(m), padding=padding)) for m in reversed(pair))
    layers = list(range(want.num_layers))
    assert far(ours.layers(layers), want.layers(layers)) <= 1e-4


def test_a_known_beginning_and_a_deeper_layer(pair):
    cpu, gpu = pair
    gpu.encode("another text", pictures(gpu)).layer(2)
    ours, want = (m.encode(WORDS, pictures(m)) for m in (gpu, cpu))
    assert far(ours.layer(2), want.layer(2)) <= 1e-4
    assert far(ours.layer(-1), want.layer(-1)) <= 1e-4


def test_answers_are_the_cpus(pair):
    cpu, gpu = pair
    ours, want = (m.rewrite(WORDS, pictures(m), max_tokens=6, temperature=0) for m in (gpu, cpu))
    assert ours.text == want.text
    assert far(ours.states.layer(3), want.states.layer(3)) <= 1e-4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", list(TOYS))
def test_half_precision_is_finite_and_near(cuda, family, dtype):
    half, full = (
        vlm.load("tiny", cuda, each, family=family, layers=LAYERS) for each in (dtype, "float32")
    )
    ours, want = (m.encode(WORDS, pictures(m)).layer(-2).float().cpu() for m in (half, full))
    assert torch.isfinite(ours).all()
    # A router that is nearly undecided may send a token to another expert.
    assert ((ours - want).norm() / want.norm()).item() <= 0.1
