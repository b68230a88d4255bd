"""The features loss of captions, and what the best constant would cost on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .align import align_characters
from .dit import Condition
from .features_loss import WORD, FeatureWeights, Spread, TextStates, features_loss
from .item import Item
from .recipe import TrainRecipe
from .student import Reading


class Features:
    """The features loss with what was measured before the first step; see `objective.Loss`.

    Attributes:
        spread: Of the text encoder's words.
        pooled_spread: Of its pooled vectors; None where there are none.
    """

    name = "features"
    frozen: tuple[nn.Module, ...] = ()

    def __init__(self, recipe: TrainRecipe, texts: Sequence[TextStates]):
        """Measures the text encoder's states of some captions.

        Raises:
            ValueError: Too few captions, or all of them the same.
        """
        self._align = recipe.align
        self._weights = FeatureWeights(recipe.pads, recipe.sinks, recipe.pooled)
        self.spread = Spread.of([text.words for text in texts])
        pooled = [text.pooled[None] for text in texts if text.pooled is not None]
        self.pooled_spread = Spread.of(pooled) if pooled else None

    def shadow(self) -> SquaredError:
        """See `objective.Loss`."""
        return SquaredError()

    def prepare(self, item: Item) -> TextStates:
        """What the text encoder makes of a caption."""
        return item.text

    def __call__(
        self, item: Item, condition: Condition
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one caption; see `features_loss`."""
        pairs = self.pairs(item.reading, item.text)
        pooled = None if self.pooled_spread is None else condition.pooled
        spreads = self.spread, pairs, pooled, self.pooled_spread
        loss = features_loss(condition.context, item.text, *spreads, self._weights)
        return loss.total, loss.parts

    def pairs(self, reading: Reading, text: TextStates) -> torch.Tensor | None:
        """Which tokens are compared: None = one to one, as where both read the same ids."""
        same = reading.ids == text.ids
        if self._align == "tokens" or (self._align == "auto" and same):
            return None
        return align_characters(reading.spans, text.spans)

    def constant_loss(self, items: Sequence[Item]) -> float:
        """What the best constant costs on the words of these captions.

        It knows these captions, which the connector does not: what no constant can be better than.
        """
        rows = []
        for item in items:
            text, pairs = item.text, self.pairs(item.reading, item.text)
            there = text.kinds == WORD
            if pairs is not None:
                there = there & pairs.any(dim=1).to(there.device)
            if there.any():
                rows.append(text.states[there] / self.spread.std.to(text.states))
        mean = torch.stack([row.mean(dim=0) for row in rows]).mean(dim=0)
        return sum(float((row - mean).square().mean()) for row in rows) / len(rows)


class SquaredError:
    """Stands in for the features loss, which looks at numbers to find pads and sinks."""

    name = Features.name
    frozen: tuple[nn.Module, ...] = ()

    def shadow(self) -> SquaredError:
        """Itself."""
        return self

    def prepare(self, item: Item) -> None:
        """Nothing."""

    def __call__(
        self, item: Item, condition: Condition
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """As much work and memory as the loss on words."""
        context = condition.context.float()
        error = (context - torch.empty_like(context)) / torch.empty_like(context[0])
        return error.square().mean(), {}
