"""The widgets of VLM Rewrite Prompt, by what they are for."""

from __future__ import annotations

from comfy_api.latest import io

from ..vlm.prompts.answer_size import STEP
from ..vlm.prompts.padding import NONE, PADDINGS
from ..vlm.running.rewrite import MAX_TOKENS, MOST_ANSWERS

MAX_SEED = 0xFFFFFFFFFFFFFFFF


def sampling_inputs() -> list[io.Input]:
    """How tokens are chosen."""
    return [
        io.Int.Input(
            "max_tokens",
            default=MAX_TOKENS,
            min=1,
            max=8192,
            tooltip="Most tokens the VLM writes, thinking included; an English word takes about "
            "1.3. It may stop earlier.",
        ),
        io.Float.Input(
            "temperature",
            default=0.7,
            min=0.0,
            max=5.0,
            step=0.05,
            tooltip="How freely it chooses words: 0 = always the likeliest one, the same at every "
            "run; 1 = as it was trained.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            control_after_generate=True,  # a new node starts fixed: web/seed.js
            tooltip="Another seed, another wording. Not used at temperature 0.",
        ),
        io.Float.Input(
            "top_p",
            default=0.8,
            min=0.01,
            max=1.0,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="Only the likeliest words that reach this probability together. 1 = all.",
        ),
        io.Int.Input(
            "top_k",
            default=20,
            min=0,
            max=1000,
            optional=True,
            advanced=True,
            tooltip="Only so many of the likeliest words. 0 = all.",
        ),
    ]


def padding_input() -> io.Input:
    """Pad tokens, which only some connectors and targets were trained with."""
    return io.Combo.Input(
        "padding",
        options=list(PADDINGS),
        default=NONE,
        optional=True,
        advanced=True,
        tooltip="Pad tokens around prompt and answer, for what was trained with them. none = "
        "no pad tokens; auto = as the target was trained; left, right = in front or behind, "
        "to the template's length or 512. The answer is never cut.",
    )


def answers_input() -> io.Input:
    """How many answers."""
    return io.Int.Input(
        "answers",
        default=1,
        min=1,
        max=MOST_ANSWERS,
        optional=True,
        tooltip="How many answers to write, each with the next seed; prompt and pictures run "
        "once. Every output is then a list, and what reads it runs once for each.",
    )


def size_inputs() -> list[io.Input]:
    """What the size outputs are made of."""
    side = {"default": 1024, "min": STEP, "max": 16384, "step": STEP}
    side |= {"optional": True, "advanced": True}
    return [
        io.Int.Input(
            "width",
            tooltip="What the output width says where the answer names no ratio or size.",
            **side,
        ),
        io.Int.Input(
            "height",
            tooltip="What the output height says where the answer names no ratio or size.",
            **side,
        ),
        io.Float.Input(
            "megapixels",
            default=1.0,
            min=0.01,
            max=64.0,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="Area of the picture where the answer names a ratio, and its most where it "
            "names a size; 1 = 1024x1024. Sides are multiples of 16.",
        ),
    ]
