"""LAP Pool: the memory that pooling 12 layers of 1024 tokens takes, and the time, in chunks.

Peaks are bytes of tensors alive at once beyond the layers as held, counted by PyTorch's profiler,
result included, and given in the bytes of one layer's states. Random weights of the layout
`unifusion` at the width of Qwen3-4B; the usual way, all tokens at once, is timed beside.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import table
import torch

LAYERS, TOKENS, WIDTH, HEADS = 12, 1024, 2560, 32
HIDDEN = 4 * WIDTH
SHORT = 96  # tokens of a prompt; their comparison with the usual way takes a tenth of the time
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LIMITS = {False: 8.0, True: 12.0}
SPEED_LIMIT = 1.15
ROUNDS = {SHORT: 3, TOKENS: 3}
MB = 2**20


def random_lap() -> Any:
    """A LAP with random weights."""
    from vlm.connectors.lap_blocks import LAP, UNIFUSION, Sizes

    torch.manual_seed(0)
    lap = LAP(Sizes(UNIFUSION, WIDTH, LAYERS, HEADS, HEADS, HIDDEN))
    return lap.requires_grad_(False).eval()


def held_layers(dtype: torch.dtype) -> list[torch.Tensor]:
    """Layers as hidden states hold them: one tensor [1, N, D] each."""
    g = torch.Generator().manual_seed(1)
    return [torch.randn(1, TOKENS, WIDTH, generator=g).to(dtype) for _ in range(LAYERS)]


def stretch(layers: list[torch.Tensor]) -> Callable[[int, int], torch.Tensor]:
    """What `HiddenStates.stretch` does."""
    return lambda first, stop: torch.stack([layer[:, first:stop] for layer in layers], dim=1)


def peak_bytes(work: Callable[[], Any]) -> int:
    """Most bytes of tensors alive at once during the work, beyond those before."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        result = work()
    events = watched.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    level = peak = 0
    for _, size in changes:
        level += size
        peak = max(peak, level)
    del result
    return peak


def all_at_once(lap: Any, layers: list[torch.Tensor], tokens: int) -> torch.Tensor:
    """The usual way: the layers of all tokens in one tensor through the blocks."""
    x = torch.stack([layer[0, :tokens] for layer in layers], dim=1).float()
    for block in lap.layerwise_blocks:
        x = block(x, *block.keys_values(x))
    return lap.projector(x.transpose(1, 2))[None, ..., 0]


def memory(lap: Any, name: str) -> list[table.Row]:
    """Peaks without and with the refiner."""
    dtype = DTYPES[name]
    layers = held_layers(dtype)
    one, get, rows = layers[0].nbytes, stretch(layers), []
    lap(get, 8, dtype=dtype)  # what the libraries take when they start is not ours
    for refiner, limit in LIMITS.items():
        what = "with refiner" if refiner else "LAP alone"
        table.say(f"{name}, {what}")
        start = time.perf_counter()
        peak = peak_bytes(lambda refiner=refiner: lap(get, TOKENS, refiner=refiner, dtype=dtype))
        seconds = time.perf_counter() - start
        unit = "of one layer's states"
        rows.append(table.Row(f"{name}: {what}, most memory", peak / one, limit, unit))
        rows.append(table.Row(f"{name}: {what}, the profiler watching", seconds, None, "s"))
    return rows


def speed(lap: Any, tokens: int) -> list[table.Row]:
    """In chunks against all at once, in turn; without the refiner."""
    layers = held_layers(torch.float32)
    get = stretch(layers)
    works = {
        "usual": lambda: all_at_once(lap, layers, tokens),
        "ours": lambda: lap(get, tokens, refiner=False),
    }
    seconds: dict[str, list[float]] = {work: [] for work in works}
    rounds = ROUNDS[tokens]
    for number in range(-1, rounds):  # the first round warms up
        table.say(f"speed, {tokens} tokens, round {number + 1} of {rounds}")
        for work, run in works.items():
            start = time.perf_counter()
            run()
            if number >= 0:
                seconds[work].append(time.perf_counter() - start)
    medians = {work: statistics.median(times) for work, times in seconds.items()}
    share = medians["ours"] / medians["usual"]
    return [
        table.Row(f"all of {tokens} tokens at once", medians["usual"], None, "s"),
        table.Row(f"{tokens} tokens in chunks", share, SPEED_LIMIT, "of all at once"),
    ]


@torch.no_grad()
def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    options = table.parser(__doc__).parse_args(arguments)
    lap = random_lap()
    rows = [row for name in DTYPES for row in memory(lap, name)]
    rows += [row for tokens in ROUNDS for row in speed(lap, tokens)]
    return table.finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
