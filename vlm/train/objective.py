"""What is made small: the features loss of a batch, and the same on captions that were held out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .align import align_characters
from .features_loss import (
    WORD,
    FeaturesLoss,
    FeatureWeights,
    Spread,
    TextStates,
    features_loss,
)
from .recipe import TrainRecipe
from .student import Reading

Outputs = Sequence[tuple[torch.Tensor, torch.Tensor | None]]


class Features:
    """The features loss with what was measured before the first step.

    Attributes:
        spread: Of the text encoder's words.
        pooled_spread: Of its pooled vectors; None where there are none.
    """

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

    def of_caption(
        self, reading: Reading, text: TextStates, context: torch.Tensor, pooled: torch.Tensor | None
    ) -> FeaturesLoss:
        """The loss of one caption; see `features_loss`."""
        pairs = self.pairs(reading, text)
        spreads = self.spread, pairs, pooled, self.pooled_spread
        return features_loss(context, text, *spreads, self._weights)

    def __call__(
        self, readings: Sequence[Reading], texts: Sequence[TextStates], outputs: Outputs
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The mean over the captions of a batch, and of each part."""
        losses = [
            self.of_caption(reading, text, *output)
            for reading, text, output in zip(readings, texts, outputs, strict=True)
        ]
        parts: dict[str, list[float]] = {}
        for loss in losses:
            for name, value in loss.parts.items():
                parts.setdefault(name, []).append(float(value.detach()))
        total = torch.stack([loss.total for loss in losses]).mean()
        return total, {name: sum(values) / len(values) for name, values in parts.items()}

    def pairs(self, reading: Reading, text: TextStates) -> torch.Tensor | None:
        """Which tokens are compared: None = one to one, as where both read the same ids."""
        same = reading.ids == text.ids
        if self._align == "tokens" or (self._align == "auto" and same):
            return None
        return align_characters(reading.spans, text.spans)

    def constant_loss(self, readings: Sequence[Reading], texts: Sequence[TextStates]) -> float:
        """What the best constant costs on the words of these captions.

        It knows these captions, which the connector does not: what no constant can be better than.
        """
        rows = []
        for reading, text in zip(readings, texts, strict=True):
            pairs = self.pairs(reading, text)
            there = text.kinds == WORD
            if pairs is not None:
                there = there & pairs.any(dim=1).to(there.device)
            if there.any():
                rows.append(text.states[there] / self.spread.std.to(text.states))
        mean = torch.stack([row.mean(dim=0) for row in rows]).mean(dim=0)
        return sum(float((row - mean).square().mean()) for row in rows) / len(rows)
