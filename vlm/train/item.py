"""A caption on its way through a step: what the frozen models make of it, each when it is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from PIL import Image

from .captions import Caption
from .features_loss import TextStates
from .pictures import load_picture
from .student import Reading


@dataclass(eq=False)
class Item:
    """A caption and what is known of it.

    Attributes:
        caption: Itself.
        draw: What its random numbers are drawn from, beside what they are for: the same caption
            gets the same ones in a run that was killed, on any number of processes.
        read: Has the VLM read it.
        encode: Has the target's own text encoder read it.
        given: By the name of a loss, what it prepared.
    """

    caption: Caption
    draw: str
    read: Callable[[str, Image.Image | None], Reading]
    encode: Callable[[str], TextStates]
    given: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def reading(self) -> Reading:
        """What the connector reads."""
        return self.read(self.caption.text, self.picture)

    @cached_property
    def text(self) -> TextStates:
        """What the target's own text encoder makes of it."""
        return self.encode(self.caption.text)

    @cached_property
    def picture(self) -> Image.Image | None:
        """Its picture; None where none was asked for."""
        return load_picture(self.caption)

    def generator(self, purpose: str) -> torch.Generator:
        """A generator on the CPU that depends on the caption, the draw and the purpose alone."""
        facts = "\n".join((purpose, self.draw, self.caption.where, self.caption.text))
        seed = int.from_bytes(hashlib.sha256(facts.encode()).digest()[:8], "big") >> 1
        return torch.Generator().manual_seed(seed)
