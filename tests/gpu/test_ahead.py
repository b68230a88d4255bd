"""Weights that stayed in RAM come one layer ahead: the same bits, two layers' room, less time."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parents[2] / "nodes" / "ahead.py"  # it knows nothing of ComfyUI
LAYERS, EXPERTS, WIDTH, INNER, TOKENS = 8, 16, 2048, 1024, 4096
MB = 2**20


@pytest.fixture(scope="module")
def ahead():
    """The module."""
    spec = importlib.util.spec_from_file_location("ahead", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["ahead"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


class Experts(torch.nn.Module):
    """A mixture whose every token goes through every expert."""

    def __init__(self, seed: int, pinned: bool, turned: bool):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        sizes = {"up": (EXPERTS, INNER, WIDTH), "down": (EXPERTS, WIDTH, INNER)}
        for name, (experts, rows, cols) in sizes.items():
            weight = torch.randn(experts, rows, cols, generator=g).to(torch.bfloat16) / 64
            weight = weight.pin_memory() if pinned else weight
            weight = weight.transpose(1, 2) if turned else weight
            setattr(self, name, torch.nn.Parameter(weight, requires_grad=False))
        self.turned = turned

    def run(self, hidden: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """[TOKENS, WIDTH] to the same."""
        for expert in range(EXPERTS):
            first, second = up[expert], down[expert]
            if self.turned:
                first, second = first.T, second.T
            hidden = hidden + torch.tanh(hidden @ first.T) @ second.T / EXPERTS
        return hidden


def run(layers, hidden, device, line=None):
    """All layers: with what brings them ahead, or each brought when it is needed."""
    with nullcontext() if line is None else line.running(torch.cuda.Stream(device)):
        for layer in layers:
            names = ("up", "down")
            if line is None:
                weights = {name: getattr(layer, name).to(device) for name in names}
            else:
                weights = line.take(layer, device)
            hidden = layer.run(hidden, **weights)
    return hidden


def seconds(work) -> float:
    """Median time of five, after one that warms up."""
    taken = []
    for _ in range(6):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


@pytest.mark.parametrize("turned", [False, True], ids=["as stored", "turned"])
@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "pageable"])
@torch.no_grad()
def test_the_same_bits_in_two_layers_room(ahead, cuda, pinned, turned):
    layers = [Experts(seed, pinned, turned) for seed in range(LAYERS)]
    line = ahead.Ahead()
    for layer in layers:
        line.add(layer)
    g = torch.Generator().manual_seed(99)
    hidden = torch.randn(TOKENS, WIDTH, generator=g).to(cuda, torch.bfloat16)
    want = run(layers, hidden, cuda)
    one = sum(weight.nbytes for weight in layers[0].parameters())
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in range(3):  # the places are made anew for each run
        assert torch.equal(run(layers, hidden, cuda, line), want)
    peak = torch.cuda.max_memory_allocated() - before
    assert peak <= 2 * one + 6 * hidden.nbytes + 8 * MB
    assert torch.cuda.memory_allocated() <= before + MB
    alone = seconds(lambda: run(layers, hidden, cuda))
    together = seconds(lambda: run(layers, hidden, cuda, line))
    sys.stdout.write(
        f"\n{LAYERS} layers of {one / MB:.0f} MB: in order {alone * 1e3:.1f} ms, one ahead "
        f"{together * 1e3:.1f} ms, {together / alone:.2f} of it; room {peak / one:.2f} layers\n"
    )
    if pinned:
        assert together <= 0.95 * alone
