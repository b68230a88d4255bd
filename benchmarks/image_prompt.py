"""Image prompt beside its separate steps: the same bits, and no more time.

The built-in model of 36 layers reads pictures of 224 x 224 pixels and ten words for Z-Image, in
float32 on the CPU; the words' own conditioning is random. Both ways begin with an empty prefix
cache and take turns; the value is the median of their ratios.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import table
import torch

TEXT = "a red house by the river, late light in autumn"
SIDE, WORDS, ROUNDS = 224, 17, 9
SLOWER = 1.05


def setting() -> tuple[Any, list[torch.Tensor], Any]:
    """The model, two pictures, the words' own tokens."""
    import vlm

    generator = torch.Generator().manual_seed(0)
    model = vlm.load("tiny", device="cpu", dtype="float32")
    pictures = [torch.rand(SIDE, SIDE, 3, generator=generator) for _ in range(2)]
    words = torch.randn(1, WORDS, model.backbone.width, generator=generator)
    return model, pictures, vlm.Tokens(words)


def at_once(model: Any, pictures: list[torch.Tensor], words: Any) -> torch.Tensor:
    """Image prompt."""
    import vlm
    from vlm.conditioning.image_prompt import image_prompt
    from vlm.pictures.reference import PictureReference

    made = image_prompt(
        TEXT,
        [PictureReference(picture) for picture in pictures],
        target="z-image",
        model=model,
        words=lambda: [vlm.Entry(words, {})],
    )
    return made.entries[0].tokens.states


def by_steps(model: Any, pictures: list[torch.Tensor], words: Any) -> torch.Tensor:
    """The same, one function of the library after another."""
    import vlm
    from vlm.conditioning.image_prompt_ways import blend_alphas

    stats, made = vlm.measure_stats([words]), words
    for picture, alpha in zip(pictures, blend_alphas([1.0] * len(pictures)), strict=True):
        states = model.encode(TEXT, [picture], target="z-image")
        states.reach_target()
        tokens = vlm.filter_tokens(vlm.select_layers(states), "all")
        made = vlm.blend(vlm.normalize(tokens, stats), made, alpha)
    return made.states


def timed(work: Callable[..., torch.Tensor], model: Any, *given: Any) -> tuple[float, torch.Tensor]:
    """Seconds from an empty prefix cache, and what came of it."""
    model.prefix_cache.clear()
    start = time.perf_counter()
    made = work(model, *given)
    return time.perf_counter() - start, made


def measure(count: int, rounds: int) -> list[table.Row]:
    """Rows for so many pictures."""
    model, pictures, words = setting()
    given = (pictures[:count], words)
    ratios, differ = [], 0.0
    for number in range(rounds + 1):  # the first warms up
        ways = (at_once, by_steps) if number % 2 else (by_steps, at_once)
        done = {way: timed(way, model, *given) for way in ways}
        differ = max(differ, float(not torch.equal(done[at_once][1], done[by_steps][1])))
        if number:
            ratios.append(done[at_once][0] / done[by_steps][0])
    name = f"{count} picture{'s' if count > 1 else ''}"
    return [
        table.Row(f"{name}: results that differ in a bit", differ, 0.0, "of 1"),
        table.Row(f"{name}: time", statistics.median(ratios), SLOWER, "of the separate steps"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    parser = table.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds per row")
    options = parser.parse_args(arguments)
    rows = []
    for count in (1, 2):
        table.say(f"{count} of 2")
        rows += measure(count, options.rounds)
    return table.finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
