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
    "qwen3vl-zimage-lap-attention": BuiltIn(
        "The second stage of qwen3vl-zimage-lap: the LAP of run-lap goes on, and Z-Image is made "
        "to attend with it as with its own text encoder (X2I's distillation), while the states "
        "stay near. Our experiment; the attention counts little because it is a sum over all "
        "tokens and blocks.",
        TrainRecipe(
            vlm="models/VLM/Qwen3-VL-4B-Instruct", teacher="models/diffusers/Z-Image-Turbo",
            dit="models/diffusers/Z-Image-Turbo", captions="captions.parquet", layers="2:36:3",
            connector="lap", target="z-image", start="run-lap/connector.safetensors",
            features=1.0, attention=1e-4, checkpointing=True, out="run-lap-attention",
            steps=5_000, batch=1, accumulate=8, lr=2e-5, precision="bf16",
        ),
    ),
    "x2i-flux1": BuiltIn(
        "X2I (sections 3.4, 3.5 and 8; train/train_qwenvl.py): an AlignNet on all layers of "
        "Qwen2.5-VL-7B, so that FLUX.1 [dev] attends with it as with T5 and CLIP, in the first "
        "step from pure noise. Texts alone. The steps and the batch of 6 are the paper's (6 here "
        "by gathering), the rest its script's, which takes 8-bit Adam: set eight_bit for that. "
        "teacher_device on a second GPU overlaps the teacher's pass, as the paper does.",
        TrainRecipe(
            vlm="models/VLM/Qwen2.5-VL-7B-Instruct", teacher="models/diffusers/FLUX.1-dev",
            dit="models/diffusers/FLUX.1-dev", captions="captions.parquet", layers="auto",
            template="x2i-train", connector="alignnet-cnn", target="flux1", features=0.0,
            attention=1.0, checkpointing=True, out="run-x2i", steps=24_000, batch=1, accumulate=6,
            lr=1e-4, precision="bf16",
        ),
    ),
    "qwen2vl-flux1-linear": BuiltIn(
        "Qwen2VL-Flux's connector: a linear layer from the picture's tokens in Qwen2-VL-7B to what "
        "FLUX.1 [dev] reads, learnt by FLUX.1's own loss of making that picture again. The "
        "published model also trained blocks of FLUX.1 and the last layer of Qwen2-VL; here the "
        "connector learns alone, and the numbers are ours. The captions measure what T5 gives, "
        "and CLIP's vector is that of no words, as published.",
        TrainRecipe(
            vlm="models/VLM/Qwen2-VL-7B-Instruct", teacher="models/diffusers/FLUX.1-dev",
            dit="models/diffusers/FLUX.1-dev", captions="pictures", caption_key="txt",
            picture_key="jpg", stream=True, sees="picture", tokens="image", layers="-1",
            connector="linear", target="qwen2vl-flux", pooled=0.0, features=0.0, flow=1.0,
            checkpointing=True, out="run-linear", steps=100_000, batch=1, accumulate=8, lr=1e-4,
        ),
    ),
}  # fmt: skip
