"""How the next token is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..finite import is_finite

SMALLEST = 1e-37  # a temperature that float32 still divides by
SEEDS = range(-(2**63), 2**64)  # that torch takes


@dataclass(frozen=True)
class Sampling:
    """Temperature, then top k, then top p, as transformers orders them.

    Attributes:
        temperature: 0 = always the likeliest token; 1 = as the model was trained.
        top_p: Only the likeliest tokens that reach this probability together; 1 = all.
        top_k: Only so many of the likeliest tokens; 0 = all.
        seed: Of the draws; not used at temperature 0.

    Raises:
        ValueError: A number outside its range.
    """

    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"temperature is {self.temperature}; expected 0 (always the likeliest word) or "
                "more, such as 0.7."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(
                f"top_p is {self.top_p}; expected more than 0 and at most 1 (all words)."
            )
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; expected 0 (all words) or more.")
        if self.seed not in SEEDS:
            raise ValueError(f"seed is {self.seed}; expected -2**63 to 2**64 - 1.")

    def generator(self) -> torch.Generator:
        """Where the draws come from: on the CPU, so that a seed means the same everywhere."""
        return torch.Generator().manual_seed(self.seed)

    def choose(self, logits: torch.Tensor, generator: torch.Generator) -> int:
        """The next token.

        Args:
            logits: [vocabulary], any float dtype and device.
            generator: Of `generator`; moves on by one draw.

        Raises:
            ValueError: NaN or Inf among them.
        """
        if not is_finite(logits):
            raise ValueError(
                "The scores of the next word hold NaN or Inf, finite numbers were expected. The "
                "model's files may be damaged; download them again."
            )
        if self.temperature < SMALLEST:
            return int(logits.argmax())
        likeliest, ids = logits.float().cpu().topk(min(self.top_k or len(logits), len(logits)))
        # Less the highest: the smallest temperature then leaves that one, and overflows nothing.
        chances = torch.softmax((likeliest - likeliest[0]) / self.temperature, dim=-1)
        before = chances.cumsum(0) - chances
        chances = chances.masked_fill((before > 0) & (before >= self.top_p), 0)
        return int(ids[torch.multinomial(chances, 1, generator=generator)])
