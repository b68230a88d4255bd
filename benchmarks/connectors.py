"""Connector Apply with X2I's AlignNet: speed and memory beside the usual way, in one run.

The usual way puts all layers into one tensor and convolves that: `conv(torch.stack(layers, 1))`.
Ours never has all layers in one tensor. Both are the mixing alone, which is nearly all of the work;
a row of its own gives the whole connector, with projector and pooled head.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import table
import torch

ROUNDS = 7
LAYERS, TOKENS, WIDTH = 29, 512, 3584  # Qwen2.5-VL-7B, a prompt as X2I pads it
CONTEXT, POOLED = 4096, 768  # FLUX.1
MB = 2**20
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def alignnet() -> Any:
    """A random AlignNet of the released sizes."""
    from vlm.connectors.alignnet import read_alignnet

    g = torch.Generator().manual_seed(0)
    shapes = {
        "conv.weight": (1, LAYERS, 5, 5),
        "conv.bias": (1,),
        "mlp.layernorm.weight": (WIDTH,),
        "mlp.layernorm.bias": (WIDTH,),
        "mlp.projector.0.weight": (CONTEXT, WIDTH),
        "mlp.projector.2.weight": (CONTEXT, CONTEXT),
        "mlp.fc.1.weight": (POOLED, CONTEXT),
        "mlp.fc.1.bias": (POOLED,),
    }
    weights = {name: torch.randn(shape, generator=g) / 60 for name, shape in shapes.items()}
    return read_alignnet(weights, "the benchmark")


def held_layers(dtype: torch.dtype) -> list[torch.Tensor]:
    """Layers as hidden states hold them: one tensor [1, N, D] each."""
    g = torch.Generator().manual_seed(1)
    return [torch.randn(1, TOKENS, WIDTH, generator=g).to(dtype) for _ in range(LAYERS)]


def stretch(layers: list[torch.Tensor]) -> Callable[[int, int], torch.Tensor]:
    """What `HiddenStates.stretch` does."""
    return lambda first, stop: torch.stack([layer[:, first:stop] for layer in layers], dim=1)


def usual_way(module: Any, dtype: torch.dtype) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    """One convolution over all layers in one tensor, in their dtype."""
    conv = torch.nn.Conv2d(LAYERS, 1, 5, padding=2)
    conv.load_state_dict({"weight": module.conv_weight, "bias": module.conv_bias})
    conv = conv.to(dtype).requires_grad_(False)
    return lambda layers: conv(torch.stack(layers, 1))


def peak_bytes(work: Callable[[], Any]) -> int:
    """The most memory that the process took beyond what it had, as the kernel counts it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory freed but kept would hide what is taken
    CLEAR.write_text("5")  # sets the high-water mark to what is in use
    before = _status("VmRSS")
    result = work()
    peak = _status("VmHWM") - before
    del result
    return peak


def _status(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def memory(module: Any, layers: list[torch.Tensor], name: str) -> list[table.Row]:
    """Peak of the mix and of the whole connector, in the bytes of the layers."""
    held = sum(layer.nbytes for layer in layers)
    get = stretch(layers)
    module(get, 8)  # what the libraries take when they start is not ours
    mix = peak_bytes(lambda: module.mix(get, TOKENS)) / held
    whole = peak_bytes(lambda: module(get, TOKENS)) / held
    return [
        table.Row(f"{name}: layers held", held / MB, None, "MB"),
        table.Row(f"{name}: most memory of the mix", mix, 1.0, "of the layers held"),
        table.Row(f"{name}: most memory of Connector Apply", whole, 1.0, "of the layers held"),
    ]


def speed(module: Any, layers: list[torch.Tensor], name: str, rounds: int) -> list[table.Row]:
    """Seconds of both ways in turn, so that they share the machine's moods."""
    usual, get = usual_way(module, layers[0].dtype), stretch(layers)
    works = {
        "usual": lambda: usual(layers),
        "mix": lambda: module.mix(get, TOKENS),
        "whole": lambda: module(get, TOKENS),
    }
    seconds: dict[str, list[float]] = {work: [] for work in works}
    for number in range(-1, rounds):  # the first round warms up
        table.say(f"{name}, round {number + 1} of {rounds}" if number >= 0 else f"{name}, warming")
        for work, run in works.items():
            start = time.perf_counter()
            run()
            if number >= 0:
                seconds[work].append(time.perf_counter() - start)
    medians = {work: statistics.median(times) for work, times in seconds.items()}
    return [
        table.Row(f"{name}: the usual way, conv(stack(layers))", medians["usual"], None, "s"),
        table.Row(f"{name}: the mix", medians["mix"] / medians["usual"], 1.1, "of the usual way"),
        table.Row(f"{name}: Connector Apply, projector included", medians["whole"], None, "s"),
    ]


@torch.no_grad()
def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    parser = table.parser(__doc__)
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="measurements of each, at least 7 (default 7)"
    )
    options = parser.parse_args(arguments)
    module = alignnet()
    rows: list[table.Row] = []
    for name, dtype in DTYPES.items():
        layers = held_layers(dtype)
        if CLEAR.exists():  # Linux, where the high-water mark of a process can be set back
            rows += memory(module, layers, name)
        rows += speed(module, layers, name, max(options.rounds, 7))
        del layers
    return table.finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
