"""What one toy model is made of, as data plus a few small functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tiny:
    """A toy model of a family: see `vlm.tiny.folder`.

    Attributes:
        config: Width, decoder layers and the special tokens' ids to the content of config.json.
        names: How the published files begin the names that begin so in transformers' base model.
        step: A width to the number that widths near it must be a multiple of.
        files: Other JSON files of the folder, by name.
        tokenizer: Content of tokenizer.json; None = `qwen_tokenizer.make_tokenizer`'s.
        tokenizer_config: Changes to what `qwen_tokenizer.make_tokenizer_config` makes.
        norm: Name of a norm's weight to the number that leaves the states as they are: 1, or 0
            where the family adds 1 to it.
        embed_scale: Width to the number that the family multiplies its embeddings with.
    """

    config: Callable[[int, int, dict[str, int]], dict[str, Any]]
    names: dict[str, str]
    step: Callable[[int], int] = lambda width: 16
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokenizer: Callable[[], dict[str, Any]] | None = None
    tokenizer_config: dict[str, Any] = field(default_factory=dict)
    norm: Callable[[str], float] = lambda name: 1.0
    embed_scale: Callable[[int], float] = lambda width: 1.0
