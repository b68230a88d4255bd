"""What one VLM family does its own way, as data plus two small functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Published:
    """What the config.json files of a family's published models say and tensors do not tell.

    Attributes:
        sizes: Name and decoder layers of each published model, by the width of its language model.
        text: Settings of the language model.
        text_nested: They stand in `text_config`; else at the top of config.json.
        head_dim: Width of one attention head of the language model.
        vision: Settings of every vision tower.
        towers: Settings of a vision tower by its width.
        preprocessor: Content of preprocessor_config.json where it differs from the family's
            defaults.
    """

    sizes: dict[int, tuple[str, int]]
    text: dict[str, Any]
    text_nested: bool
    head_dim: int
    vision: dict[str, Any]
    towers: dict[int, dict[str, Any]]
    preprocessor: dict[str, Any]


@dataclass(frozen=True)
class Family:
    """A family of VLMs that share an architecture, a tokenizer layout and a processor.

    Attributes:
        title: The name people know, for messages.
        model_type: `model_type` in config.json.
        architecture: Class in transformers that loads the checkpoint.
        vision_start: Token before a picture's tokens.
        vision_end: Token after them.
        image_token: Token that a picture's features replace.
        video_token: Token that a video's features replace.
        timed_frames: True where each group of video frames is a block of its own after a line of
            text with its time; False where a video is one block.
        video_time_step: Seconds per grid step and the vision config to the step of the temporal
            position between two frames of one block.
        unpack_vision: What `get_image_features` returned to features [n, D] and one [n, D] per
            DeepStack level.
        chat_template: Jinja chat template for files that come without one.
        sees: False where it has no vision tower.
        stop_tokens: Tokens that end an answer.
        thinking: Tokens around what it writes before the answer; not every model has them.
        published: Its published models, for files that come without a config.json; None = such
            files are not loaded.
    """

    title: str
    model_type: str
    architecture: str
    unpack_vision: Callable[[Any], tuple[torch.Tensor, list[torch.Tensor]]]
    chat_template: str
    video_time_step: Callable[[float, Any], float] = lambda seconds, vision: 1.0
    timed_frames: bool = False
    sees: bool = True
    published: Published | None = None
    vision_start: str = "<|vision_start|>"
    vision_end: str = "<|vision_end|>"
    image_token: str = "<|image_pad|>"
    video_token: str = "<|video_pad|>"
    stop_tokens: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>")
    thinking: tuple[str, str] = ("<think>", "</think>")


def features_only(output: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Reads the vision output of a family without DeepStack.

    transformers 4.57 returns a tuple of one tensor a picture; 5.x an object that holds it.
    """
    features = getattr(output, "pooler_output", output)
    return torch.cat(tuple(features)), []
