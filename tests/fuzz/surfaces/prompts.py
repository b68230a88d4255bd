"""Prompts as people write them: words, conversations, pictures in words, sizes, targets, syntax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import vlm

from ..case import Case, Make, line_of
from ..draw import Draw
from .models import picture, sent, tiny_model

# A prompt of 10 000 tokens takes seconds because it is computed, not because it is odd.
MOST_LETTERS, MOST_TURN = 1500, 300


def prepare(base: Path) -> Make:
    """A model that encodes them."""
    model = tiny_model(base)
    shown = [picture(64), picture(96)]

    def make(draw: Draw, room: Path) -> Case:
        text = draw.words()[:MOST_LETTERS]
        given = _settings(draw)
        images = draw.one(None, None, shown[:1], shown, [])
        if draw.chance(0.2):
            given["syntax"] = vlm.PromptSyntax(weights=draw.one("scale states", "as native"))
        turns = [
            (draw.words()[:MOST_TURN], draw.words()[:MOST_TURN]) for _ in range(draw.randint(0, 2))
        ]

        def run() -> Any:
            model.prefix_cache.clear()
            said = vlm.Conversation()
            for asked, answer in turns:
                said = said.user(asked, draw.one(None, shown[:1])).assistant(answer)
            more = {"conversation": said} if turns else {}
            return sent(vlm.select_layers(model.encode(text, images, **given, **more), -2))

        return Case(line_of("encode", text, given, turns, len(images or ())), run)

    return make


def _settings(draw: Draw) -> dict[str, Any]:
    ways = {
        "target": lambda: draw.one(*vlm.TARGETS),
        "template": lambda: draw.one(*vlm.TEMPLATES),
        "system": lambda: draw.text()[:MOST_LETTERS],
        "edit": lambda: draw.text()[:MOST_LETTERS],
        "min_pixels": draw.whole,
        "max_pixels": lambda: draw.one(draw.whole(), 4096, 65536),
        "depth": draw.whole,
        "keep_mb": draw.number,
        "padding": lambda: draw.one("auto", "left", "right", "none", draw.text()),
        "mute": lambda: [draw.whole() for _ in range(draw.randint(0, 2))],
        "placed": lambda: True,
        "fps": draw.number,
    }
    return {name: ways[name]() for name in draw.sample(list(ways), draw.randint(0, 3))}
