"""Real VRAM and real time on a CUDA device; prints what it measured.

One command, skipped where there is no GPU: python -m pytest tests/gpu -s
"""

from __future__ import annotations

import statistics
import sys
import time

import pytest
import torch
from gpu_model import build, picture

from vlm.running.backbone import TEXT, VISION
from vlm.weights import fp8

GB = 2**30
WORDS = "a red house by the sea at dawn, two boats and a flock of birds over the water"


def report(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")


@pytest.fixture(scope="module")
def model(cuda):
    return build(cuda)


@pytest.mark.parametrize("side", [512, 1024, 1792])
def test_peak_against_the_estimate(model, cuda, side):
    model.encode(WORDS, picture(64)).reach(-1)  # kernels and their workspaces come with the first
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    states = model.encode(WORDS, picture(side, 1), max_pixels=side * side)
    states.reach(-1)
    peak = torch.cuda.max_memory_allocated() - before
    patches = states.prompt.vision_inputs[0].num_patches
    needed = max(
        model.backbone.run_bytes(part, states.token_map["n"], patches) for part in (TEXT, VISION)
    )
    report(
        f"{side} px, {states.token_map['n']} tokens: peak {peak / GB:.3f} GB, "
        f"estimate {needed / GB:.3f} GB, {peak / needed:.2f} of it"
    )
    assert peak <= needed <= 4 * peak


def multiply_adds(model, tokens: int, patches: int) -> int:
    """Multiply-adds of a run: every weight once a token or patch, and attention's two products."""
    text, visual = model.backbone.text, model.backbone.visual
    layers = sum(weight.numel() for weight in text.layers.parameters())
    heads = text.config.num_attention_heads * text.config.head_dim
    attention = len(text.layers) * tokens**2 * heads  # causal: half of two products
    tower = sum(weight.numel() for weight in visual.blocks.parameters()) * patches
    tower += len(visual.blocks) * 2 * patches**2 * visual.config.hidden_size
    return layers * tokens + attention + tower


def seconds(run, rounds: int = 7) -> float:
    """Median time of a run, after one that warms up."""
    run()
    taken = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def test_time_against_the_flop_bound(model, cuda):
    side = 8192
    matrix = torch.randn(side, side, device=cuda, dtype=torch.bfloat16)
    rate = side**3 / seconds(lambda: matrix @ matrix)
    image = picture(1024, 2)
    states = model.encode(WORDS, image, max_pixels=1024 * 1024)
    work = multiply_adds(model, states.token_map["n"], states.prompt.vision_inputs[0].num_patches)

    def run():
        model.encode(WORDS, image, max_pixels=1024 * 1024, depth=-1)

    taken = seconds(run)
    report(
        f"encode {taken * 1e3:.1f} ms, bound {work / rate * 1e3:.1f} ms at the measured rate of "
        f"{2 * rate / 1e12:.0f} TFLOP/s: {taken / (work / rate):.1f} times the bound"
    )
    assert work / rate <= taken <= 20 * work / rate


def test_fp8_against_its_dequantised_weights(model, cuda):
    """The same fp8 values, kept in memory as they are and as bfloat16."""
    image = picture(512, 3)
    kept, dequantised = build(cuda), build(cuda)
    for (name, layer), (_, twin) in zip(
        list(kept.backbone.text.named_modules()),
        list(dequantised.backbone.text.named_modules()),
        strict=True,
    ):
        if not fp8.can_stay(layer, f"{name}.weight"):
            continue
        scale = (layer.weight.abs().max() / 448).item()
        stored = (layer.weight.float() / scale).to(torch.float8_e4m3fn)
        twin.weight.copy_(fp8.dequantise(stored, scale, torch.bfloat16))
        layer.weight = torch.nn.Parameter(stored, requires_grad=False)
        fp8.keep(layer, scale, torch.bfloat16)
    sizes = [sum(w.nbytes for w in one.backbone.text.parameters()) for one in (kept, dequantised)]
    ours, theirs = (
        one.encode(WORDS, image, depth=-2).layer(-2).float() for one in (kept, dequantised)
    )
    error = ((ours - theirs).norm() / theirs.norm()).item()
    report(f"fp8 takes {sizes[0] / sizes[1]:.2f} of bfloat16, relative error {error:.1e}")
    assert error <= 1e-2
    assert sizes[0] <= 0.6 * sizes[1]
