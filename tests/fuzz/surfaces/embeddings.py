"""Embeddings that a prompt names: their files, and names that would lead out of their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import vlm

from ..case import Case, Make, line_of
from ..draw import Draw
from .models import sent, tiny_model
from .tensor_bytes import damaged, odd_like, pickled

WIDTH = 64  # of the toy model
NAMES = (
    "mine",
    "mine.pt",
    "sub/mine",
    "../bait",
    "../bait.safetensors",
    "/etc/passwd",
    "../../x",
    "./mine",
)
NAMES += (
    "mine.",
    "MINE",
    "..",
    ".",
    "mine\x00",
    "mine/../../bait",
    "~/x",
    "sub/../mine",
    "link",
    "pipe",
)


def prepare(base: Path) -> Make:
    """A model whose prompts name embeddings."""
    model = tiny_model(base)

    def make(draw: Draw, room: Path) -> Case:
        place = room / "embeddings"
        (place / "sub").mkdir(parents=True)
        ending = draw.one(".safetensors", ".safetensors", ".pt", ".bin")
        content = _content(draw)
        for file in (place / f"mine{ending}", place / "sub" / f"mine{ending}"):
            whole = ending == ".safetensors"
            data = damaged(draw, content, {}) if whole else pickled(draw, _wrapped(draw, content))
            file.write_bytes(data)
        if draw.chance(0.2):
            (place / "sub" / "up").symlink_to(place)
        source: Any = place
        if draw.chance(0.25):
            source = {
                "mine": draw.one(draw.odd_tensor(), draw.tensor(2, WIDTH), draw.tensor(WIDTH))
            }
        name = draw.one("mine", draw.choice(NAMES), draw.text()[:1000])
        text = draw.one("a {} b", "embedding:{}", "(a {}:1.2)", "{} {}", "<image1> {}").replace(
            "{}", f"embedding:{name}"
        )
        weights, target = (
            draw.one("as native", "scale states"),
            draw.one("chat", "z-image", "krea2", "qwen-image"),
        )

        def run() -> Any:
            syntax = vlm.PromptSyntax(source, weights)
            states = model.encode(text, target=target, syntax=syntax)
            return sent(vlm.select_layers(states, -2))

        return Case(line_of(text, target, weights, ending), run)

    return make


def _content(draw: Draw) -> dict[str, torch.Tensor]:
    key = draw.one(
        "qwen3_4b",
        "emb_params",
        "bundle_emb.a.qwen3_4b",
        "bundle_emb.a.string_to_param.*",
        "clip_l",
        "a",
    )
    made = {key: draw.tensor(draw.randint(1, 4), WIDTH)}
    return {key: odd_like(draw, made[key])} if draw.chance(0.4) else made


def _wrapped(draw: Draw, content: dict) -> Any:
    first = next(iter(content.values()))
    return draw.one(
        content, {"string_to_param": {"*": first}}, [content], {"string_to_param": []}, first
    )
