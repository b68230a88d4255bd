"""Image Prompt beside the library's separate steps, called one by one: the same bits, its time.

On the built-in model, with the prefix cache emptied before every call, so that both sides run the
same kernels on the same shapes.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import table
import torch

ROUNDS = 41
WIDTH, LAYERS = 256, 36
SIDE = 256  # pixels: 8 x 8 tokens
WORDS = "a red house by the river, seen from the hill in the evening"
MOST_TIME, TIME = 1.05, "of the separate steps"
States = list[torch.Tensor]


def picture(seed: int) -> torch.Tensor:
    """A random picture, ``[H, W, C]``."""
    return torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(seed))


def left_half() -> torch.Tensor:
    """A mask over the left half."""
    mask = torch.zeros(SIDE, SIDE)
    mask[:, : SIDE // 2] = 1
    return mask


def blended(model: Any, words: Any, *steps: Callable[[Any], Any], keep: str = "all") -> States:
    """One picture blended into the words, step by step; `steps` come before the layers are read."""
    import vlm

    states = model.encode(WORDS, [picture(0)], target="z-image")
    states.reach_target()
    for step in steps:
        states = step(states)
    tokens = vlm.filter_tokens(vlm.select_layers(states), keep)
    tokens = vlm.normalize(tokens, vlm.measure_stats([words]))
    return [vlm.blend(tokens, words).states]


def in_prompt(model: Any, strength: float) -> States:
    """One picture in Krea 2's prompt; below strength 1 the words alone beside it."""
    import vlm

    seen = model.encode(WORDS, [picture(0)], target="krea2")
    seen.reach_target()
    made = [vlm.select_layers(seen).states]
    if strength < 1:
        alone = model.encode(WORDS, target="krea2")
        alone.reach_target()
        made.append(vlm.select_layers(alone).states)
    return made


def cases(model: Any) -> dict[str, tuple[Callable[[], States], Callable[[], States]]]:
    """Image Prompt and the separate steps, by what is asked of them."""
    import vlm
    from vlm.conditioning.image_prompt import image_prompt
    from vlm.pictures.reference import PictureReference

    words = vlm.select_layers(model.encode(WORDS, target="z-image"))

    def prompted(target: str, **reference: Any) -> Callable[[], States]:
        def run() -> States:
            one = PictureReference(picture(0), **reference)
            own = (lambda: [vlm.Entry(words, {})]) if target == "z-image" else None
            made = image_prompt(WORDS, [one], target=target, model=model, words=own)
            return [entry.tokens.states for entry in made.entries]

        return run

    def weighed(states: Any) -> Any:
        grid = states.token_map["grids"][0]
        return vlm.apply_mask(states, vlm.resample_mask(left_half(), grid["rows"], grid["cols"]))

    def pooled(states: Any) -> Any:
        return vlm.pool_tokens(states, 16)

    weights = {"mask": left_half(), "mask_use": "weight"}
    return {
        "Z-Image": (prompted("z-image"), lambda: blended(model, words)),
        "Z-Image, mask": (
            prompted("z-image", **weights),
            lambda: blended(model, words, weighed),
        ),
        "Z-Image, pooled": (
            prompted("z-image", keep="pooled", pool_size=16),
            lambda: blended(model, words, pooled, keep="image"),
        ),
        "Krea 2": (prompted("krea2"), lambda: in_prompt(model, 1.0)),
        "Krea 2, strength 0.5": (prompted("krea2", strength=0.5), lambda: in_prompt(model, 0.5)),
    }


def compare(name: str, ours: Callable[[], States], steps: Callable[[], States]) -> list[table.Row]:
    """Whether both give the same bits, and the median of ours as a share of theirs."""
    same = [a.shape == b.shape and torch.equal(a, b) for a, b in zip(ours(), steps(), strict=True)]
    ratios = []
    for turn in range(ROUNDS):
        seconds = {}
        for side in (ours, steps) if turn % 2 else (steps, ours):
            start = time.process_time()
            side()
            seconds[side] = time.process_time() - start
        ratios.append(seconds[ours] / seconds[steps])
    return [
        table.Row(f"{name}: equal bit for bit", float(all(same)), 1.0, "", True),
        table.Row(f"{name}: time", statistics.median(ratios), None, TIME),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    options = table.parser(__doc__).parse_args(arguments)
    import vlm

    torch.set_num_threads(1)
    model = vlm.load("tiny", device="cpu", dtype="float32", width=WIDTH, layers=LAYERS)

    def emptied(run: Callable[[], States]) -> Callable[[], States]:
        def from_the_start() -> States:
            model.prefix_cache.clear()
            return run()

        return from_the_start

    rows = []
    for name, sides in cases(model).items():
        table.say(name)
        rows += compare(name, *map(emptied, sides))
    times = [row.value for row in rows if row.unit == TIME]
    rows.append(table.Row("time, mean of these", statistics.geometric_mean(times), MOST_TIME, TIME))
    return table.finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
