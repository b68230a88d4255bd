"""Attention distillation: the diffusion model attends with the connector as with its own encoder.

Source: X2I, sections 3.4 and 3.5, and its train/train_qwenvl.py.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn

from .attention_loss import attention_loss
from .blocks import heard, parse_blocks, parse_streams
from .dit import LATENT, TEXT, Condition, Dit, image_tokens
from .item import Item
from .recipe import TrainRecipe

PURE_NOISE = 1.0  # X2I distils the first step alone


class Heard(NamedTuple):
    """What a teacher's pass left.

    Attributes:
        noise: [C, H, W] that both start from.
        tokens: N that the teacher read.
        outputs: Its attention outputs [1, n, D].
    """

    noise: torch.Tensor
    tokens: int
    outputs: list[torch.Tensor]


class Attention:
    """The loss between two passes of one frozen diffusion model; see `objective.Loss`."""

    name = "attention"

    def __init__(self, recipe: TrainRecipe, student: Dit, teacher: Dit):
        """Chooses blocks and streams.

        Args:
            recipe: Says which.
            student: Through which the connector learns.
            teacher: The same model, perhaps on another device.

        Raises:
            ValueError: Blocks or streams that do not exist, or none of both.
        """
        self._student, self._teacher = student, teacher
        self._temperature, self._guidance = recipe.temperature, recipe.guidance
        self._side = recipe.size // LATENT
        self._streams = parse_streams(recipe.streams)
        self._places = parse_blocks(recipe.blocks, student.groups)
        if not any(set(student.has[at.group]) & set(self._streams) for at in self._places):
            raise ValueError(
                f"None of the blocks {recipe.blocks} has a stream {recipe.streams}. Choose blocks "
                "that have, or the other stream."
            )

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """See `objective.Loss`."""
        return (self._student.model,)

    def shadow(self) -> Attention:
        """See `objective.Loss`."""
        other = copy.copy(self)
        other._student = other._teacher = self._student.shadow()
        return other

    @torch.no_grad()
    def prepare(self, item: Item) -> Heard:
        """The teacher's pass."""
        shape = (self._teacher.channels, self._side, self._side)
        noise = torch.randn(shape, generator=item.generator(self.name))
        condition = Condition(item.text.states, item.text.pooled)
        return Heard(noise, len(item.text.states), self._outputs(self._teacher, noise, condition))

    def __call__(
        self, item: Item, condition: Condition
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one caption.

        Raises:
            ValueError: Text streams of two lengths.
        """
        given: Heard = item.given[self.name]
        tokens = len(condition.context)
        if TEXT in self._streams and tokens != given.tokens:
            raise ValueError(
                f"The connector gives {tokens} tokens of {item.caption.where}, the text encoder "
                f"{given.tokens}: their text streams cannot be compared. Set streams to image, or "
                "template to one that pads to as many."
            )
        outputs = self._outputs(self._student, given.noise, condition)
        loss = attention_loss(outputs, given.outputs, self._temperature)
        return loss, {self.name: loss}

    def _outputs(self, dit: Dit, noise: torch.Tensor, condition: Condition) -> list[torch.Tensor]:
        with heard(dit, self._places) as outputs:
            dit(noise, PURE_NOISE, condition, self._guidance)
        counts = image_tokens(noise.shape), len(condition.context)
        return [
            output
            for place in self._places
            for stream, output in dit.streams(place.group, outputs[place], *counts).items()
            if stream in self._streams
        ]
