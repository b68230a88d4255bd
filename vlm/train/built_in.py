"""The recipes that come with the pack."""

from __future__ import annotations

from dataclasses import dataclass

from .recipe import TrainRecipe


@dataclass(frozen=True)
class BuiltIn:
    """A recipe and what it is for.

    Attributes:
        note: A few sentences for who reads the file.
        recipe: Its keys.
    """

    note: str
    recipe: TrainRecipe


BUILT_IN: dict[str, BuiltIn] = {
    "tiny": BuiltIn(
        "A look at the whole way in under a minute on a CPU: the built-in random Qwen3-VL learns "
        "what a random Qwen3 makes of the same captions. Set captions to a text file of a hundred "
        "lines or more. It has no use beyond that.",
        TrainRecipe(
            vlm="tiny", teacher="tiny", layers="12", connector="norm-linear", out="run-tiny",
            held_out=16, steps=150, batch=8, lr=1e-2, warmup=10, every=50,
        ),
    ),
    "qwen3vl-zimage-projection": BuiltIn(
        "Qwen3-VL-4B in place of Z-Image's Qwen3-4B: a norm and a linear layer on layer -2, "
        "against what Qwen3-4B makes of the same captions, token for token. The next step that the "
        "Qwen3-VL x Z-Image research names; its numbers are ours and nobody has trained it yet.",
        TrainRecipe(
            vlm="models/VLM/Qwen3-VL-4B-Instruct", teacher="models/diffusers/Z-Image-Turbo",
            captions="captions.parquet", layers="-2", connector="norm-linear", target="z-image",
            out="run-projection", steps=10_000, batch=16, lr=1e-3, cache="train-cache",
        ),
    ),
    "qwen3vl-zimage-lap": BuiltIn(
        "A LAP with refiner (UniFusion, sections 2 and 3) on every third layer of Qwen3-VL-4B, "
        "against what Z-Image's Qwen3-4B makes of the same captions. UniFusion trains its LAP with "
        "the diffusion model; against a text encoder it is our experiment.",
        TrainRecipe(
            vlm="models/VLM/Qwen3-VL-4B-Instruct", teacher="models/diffusers/Z-Image-Turbo",
            captions="captions.parquet", layers="2:36:3", connector="lap", target="z-image",
            out="run-lap", steps=20_000, batch=8, lr=1e-4, precision="bf16",
        ),
    ),
}  # fmt: skip
