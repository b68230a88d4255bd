"""Training beside a plain loop of the same forwards and backward, and what a cache spares.

Random toy models on the CPU: Qwen3-VL and Qwen3 (width 256), a Z-Image of 4 layers (width 256).
Needs `pip install .[train]`.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import table
import torch

WIDTH, LAYERS = 256, 12
STEPS, ROUNDS, BATCH = 12, 3, 4
LOOP_LIMIT, CACHE_LIMIT, MEMORY_LIMIT = 1.1, 0.6, 1.1
LOOSE_LIMIT = 1.5  # a prediction that says far too much sends people away
WORDS = ("red", "house", "old", "dog", "river", "quiet", "city", "boat", "tree", "lamp", "bird")


def write_models(folder: Path) -> None:
    """`vlm`, `text_encoder`, `transformer` and captions."""
    from diffusers import ZImageTransformer2DModel

    from vlm.tiny.folder import write_tiny

    write_tiny(folder / "vlm", "qwen3_vl", WIDTH, LAYERS)
    write_tiny(folder / "text_encoder", "qwen3", WIDTH, LAYERS)
    torch.manual_seed(0)
    model = ZImageTransformer2DModel(
        dim=256, n_layers=4, n_refiner_layers=1, n_heads=4, n_kv_heads=4, cap_feat_dim=WIDTH,
        axes_dims=[16, 24, 24], axes_lens=[256, 64, 64],
    )  # fmt: skip
    model.save_pretrained(folder / "transformer")
    draw = random.Random(0)
    lines = sorted({" ".join(draw.choices(WORDS, k=12)) for _ in range(100)})
    (folder / "captions.txt").write_text("\n".join(lines) + "\n")


@contextmanager
def any_width() -> Iterator[None]:
    """A text encoder of toy width stands in for Z-Image's, which is 2560 wide."""
    from vlm.train import teacher

    whole = teacher.TARGETS
    toy = replace(whole["z-image"], width=WIDTH)
    teacher.TARGETS = {**whole, "z-image": toy}
    try:
        yield
    finally:
        teacher.TARGETS = whole


def step_seconds(recipe: Any) -> list[float]:
    """Seconds of each step of a run but its first and last, which begin and end it."""
    from vlm.train.run import train

    times: list[float] = []
    train(recipe, lambda row: times.append(time.process_time()))
    return [after - before for before, after in zip(times[:-2], times[1:-1], strict=True)]


def plain_seconds(recipe: Any) -> list[float]:
    """The same work as a loop without accelerate, checkpoints, log and resuming."""
    from vlm.train.data import read_data
    from vlm.train.features_loss import Spread, features_loss
    from vlm.train.models import load_models
    from vlm.train.new_connector import Shape, make_connector
    from vlm.train.student import Student

    cpu = torch.device("cpu")
    reader, teacher = load_models(recipe, cpu, cpu)
    captions = read_data(recipe).first
    spread = Spread.of([teacher(caption.text).words for caption in captions[:8]])
    reads = Spread.of([reader(caption.text).layers[0, 0].float() for caption in captions[:8]])
    dit_step = plain_attention(recipe) if recipe.attention else None
    student = Student(make_connector(recipe, Shape(WIDTH, WIDTH), None), reads, spread)
    optimizer = torch.optim.AdamW(student.parameters(), lr=recipe.lr)
    seconds = []
    for number in range(STEPS):
        start = time.process_time()
        batch = [captions[(number * BATCH + at) % len(captions)].text for at in range(BATCH)]
        readings, texts = [reader(one) for one in batch], [teacher(one) for one in batch]
        losses = []
        for (context, _), text in zip(student(readings), texts, strict=True):
            if dit_step is None:
                losses.append(features_loss(context, text, spread).total)
            else:
                losses.append(dit_step(context, text.states))
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - start)
    return seconds[1:-1]


def plain_attention(recipe: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Two passes of Z-Image and the loss between their attention outputs."""
    from diffusers import ZImageTransformer2DModel

    from vlm.train.attention_loss import attention_loss

    place = Path(recipe.dit) / "transformer"
    model = ZImageTransformer2DModel.from_pretrained(place).requires_grad_(False)
    outputs: list[torch.Tensor] = []
    for module in model.modules():
        if type(module).__name__ == "Attention":
            module.register_forward_hook(lambda module, given, output: outputs.append(output))

    def run(context: torch.Tensor, noise: torch.Tensor) -> list[torch.Tensor]:
        outputs.clear()
        model([noise], torch.zeros(1), [context], return_dict=False)
        return list(outputs)

    def loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(16, 1, recipe.size // 8, recipe.size // 8)
        with torch.no_grad():
            wanted = run(teacher, noise)
        return attention_loss(run(student, noise), wanted)

    return loss


def beside_plain(folder: Path, name: str, recipe: Any) -> table.Row:
    """Time per step of a run, of a plain loop's; both in turn."""
    ours: list[float] = []
    plain: list[float] = []
    for number in range(ROUNDS):
        table.say(f"{name}, round {number + 1} of {ROUNDS}")
        ours += step_seconds(replace(recipe, out=str(folder / f"{name}-{number}")))
        plain += plain_seconds(recipe)
    ratio = statistics.median(ours) / statistics.median(plain)
    return table.Row(f"{name}: a step", ratio, LOOP_LIMIT, "of a plain loop's")


def memory(folder: Path, name: str, recipe: Any) -> list[table.Row]:
    """Tensors of a step when they are most, and the models' weights, of what was foretold."""
    from lap import peak_bytes

    from vlm.train.data import read_data
    from vlm.train.models import make_accelerator
    from vlm.train.run import Run

    table.say(f"{name}, memory")
    recipe = replace(recipe, out=str(folder / f"{name}-memory"))
    run = Run(recipe, read_data(recipe), make_accelerator(recipe))
    foretold = run.forecast()
    steps = run._batches()
    run._update(next(steps))  # the optimiser's states are there afterwards
    held = run._reader.vlm.backbone.text, *run._teacher.modules, run._student
    frozen = [each for loss in run._objective.losses.values() for each in loss.frozen]
    weights = sum(each.nbytes for module in (*held, *frozen) for each in module.parameters())
    states = sum(
        value.nbytes for state in run._optimizer.state.values() for value in state.values()
    )
    peak = peak_bytes(lambda: run._update(next(steps)))
    ratio = (weights + states + peak) / foretold.memory
    return [
        table.Row(f"{name}: most memory", ratio, MEMORY_LIMIT, "of what was foretold"),
        table.Row(f"{name}: memory foretold", 1 / ratio, LOOSE_LIMIT, "of what it was"),
    ]


def second_epoch(folder: Path, recipe: Any) -> table.Row:
    """Time of the second epoch with a cache, of the first."""
    table.say("cache")
    epoch = 80 // BATCH
    cached = replace(
        recipe, out=str(folder / "cached"), cache=str(folder / "cache"), steps=2 * epoch + 1,
        every=1000, calibrate=2,
    )  # fmt: skip
    seconds = step_seconds(cached)
    first, second = sum(seconds[:epoch]), sum(seconds[epoch : 2 * epoch])
    return table.Row(
        "features: the second epoch with a cache", second / first, CACHE_LIMIT, "of the first"
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    options = table.parser(__doc__).parse_args(arguments)
    torch.set_num_threads(1)
    from vlm.train.recipe import TrainRecipe

    with tempfile.TemporaryDirectory() as name, any_width():
        folder = Path(name)
        write_models(folder)
        recipe = TrainRecipe(
            captions=str(folder / "captions.txt"), vlm=str(folder / "vlm"), teacher=str(folder),
            dit=str(folder), layers="-2", connector="linear", device="cpu", steps=STEPS, size=128,
            batch=BATCH, held_out=0, calibrate=8, every=1000, align="tokens", report=False,
        )  # fmt: skip
        attention = replace(recipe, features=0.0, attention=1.0)
        rows = [
            beside_plain(folder, "features", recipe),
            beside_plain(folder, "attention", attention),
            second_epoch(folder, recipe),
            *memory(folder, "features", recipe),
            *memory(folder, "attention", attention),
            *memory(folder, "checkpointing", replace(attention, checkpointing=True)),
        ]
    return table.finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
