"""What is made small: a recipe's losses, weighted and summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from .dit import Condition
from .item import Item

Outputs = Sequence[tuple[torch.Tensor, torch.Tensor | None]]


class Loss(Protocol):
    """One kind of loss.

    Attributes:
        name: Its key in a recipe, and in what it prepared.
    """

    name: str

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """Models that it runs through where the connector is."""
        ...

    def shadow(self) -> Loss:
        """The same with as much work, for tensors that have shapes alone."""
        ...

    def prepare(self, item: Item) -> Any:
        """What can be made of a caption before the connector has run, without a gradient."""
        ...

    def __call__(
        self, item: Item, condition: Condition
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a caption and its parts, which are not weighted."""
        ...


class Objective:
    """A weighted sum of losses, as the mean over the captions of a batch.

    Attributes:
        losses: By their names.
    """

    def __init__(
        self,
        losses: Sequence[Loss],
        weights: Mapping[str, float],
        pooled: torch.Tensor | None = None,
    ):
        """Takes the losses.

        Args:
            losses: One at least.
            weights: What each counts, by its name.
            pooled: [P] that the diffusion model reads of a connector without a pooled vector.
        """
        self.losses = {loss.name: loss for loss in losses}
        self._weights, self._pooled = weights, pooled

    def prepare(self, item: Item) -> Item:
        """Has every loss prepare a caption; the same item."""
        item.given = {name: loss.prepare(item) for name, loss in self.losses.items()}
        return item

    def __call__(
        self, items: Sequence[Item], outputs: Outputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The mean over the captions of a batch, and of each part, which has no gradient.

        Args:
            items: Prepared.
            outputs: What the connector gives of each.
        """
        totals, parts = [], dict[str, list[torch.Tensor]]()
        for item, (context, pooled) in zip(items, outputs, strict=True):
            condition = Condition(context, self._pooled if pooled is None else pooled)
            for name, loss in self.losses.items():
                value, own = loss(item, condition)
                totals.append(self._weights[name] * value.to(context.device))
                for part, size in own.items():
                    parts.setdefault(part, []).append(size.detach())
        total = torch.stack(totals).sum() / len(items)
        return total, {name: torch.stack(values).mean() for name, values in parts.items()}
