"""The features loss: a connector's tokens made like those of the target's own text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..arguments import checked
from ..tokens.spread import sink_tokens
from .align import Span

WORD, PAD, SINK = 0, 1, 2
LEAST_STD = 1e-3  # of the median std: what a dimension that hardly varies is divided by


@dataclass(frozen=True, eq=False)
class TextStates:
    """What a target's own text encoder makes of a caption.

    Attributes:
        states: [M, D] float32.
        kinds: [M] int64: WORD, PAD or SINK.
        ids: Its token ids.
        spans: Characters of the caption that each token stands for; empty for other tokens.
        pooled: [P] float32; None where the target reads no pooled vector.
    """

    states: torch.Tensor
    kinds: torch.Tensor
    ids: tuple[int, ...]
    spans: tuple[Span, ...]
    pooled: torch.Tensor | None = None

    @property
    def words(self) -> torch.Tensor:
        """The states of what is neither pad nor sink, [n, D]."""
        return self.states[self.kinds == WORD]


@dataclass(frozen=True, eq=False)
class Spread:
    """How values of a text encoder or a VLM vary from token to token.

    Attributes:
        mean, std: [D] float32; std with N - 1, LEAST_STD of the median at least.
    """

    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[torch.Tensor]) -> Spread:
        """Measured over rows [n, D]; at least two in all.

        Raises:
            ValueError: Fewer than two rows, or all of them the same.
        """
        together = torch.cat(list(rows)).float()
        if len(together) < 2:
            raise ValueError(
                f"A spread needs at least 2 rows, there is {len(together)}. Give more captions."
            )
        std = together.std(dim=0)
        if not bool(std.any()):
            raise ValueError("All captions give the same states: there is nothing to learn.")
        middle = std[std > 0].median()
        return cls(together.mean(dim=0), std.clamp(min=LEAST_STD * float(middle)))


@dataclass(frozen=True)
class FeatureWeights:
    """What the parts of the features loss count beside its words, which count 1."""

    pads: float = 0.1
    sinks: float = 0.1
    pooled: float = 1.0


@dataclass(frozen=True, eq=False)
class FeaturesLoss:
    """The loss of one caption.

    Attributes:
        total: The weighted sum of the parts.
        parts: `words`, `pads`, `sinks` and `pooled`, those that there are; not weighted.
    """

    total: torch.Tensor
    parts: dict[str, torch.Tensor]


def kinds_of(states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """WORD, PAD or SINK of each token.

    Args:
        states: [M, D] float32.
        real: [M] bool, False = a pad token.

    Returns:
        [M] int64.
    """
    kinds = torch.where(real, WORD, PAD)
    places = real.nonzero().flatten()
    if len(places):
        kinds[places[sink_tokens(states[None, places])[0]]] = SINK
    return kinds


@checked
def features_loss(
    student: torch.Tensor,
    teacher: TextStates,
    spread: Spread,
    pairs: torch.Tensor | None = None,
    pooled: torch.Tensor | None = None,
    pooled_spread: Spread | None = None,
    weights: FeatureWeights = FeatureWeights(),
) -> FeaturesLoss:
    """How far a connector's tokens are from a text encoder's, each kind of token by itself.

    Words, pads and the pooled vector: mean squared error in units of each dimension's std, so that
    always giving the mean costs 1 and the massive dimensions count as all others. Sinks: squared
    error as a share of their own squares, for their values are thousands of times the usual.

    Args:
        student: [N, D] floating point.
        teacher: The text encoder's states of the same caption.
        spread: Of the teacher's words.
        pairs: Of `align_characters`; None = the tokens of both are the same, one to one.
        pooled: The connector's pooled vector [P], where both have one.
        pooled_spread: Of the teacher's pooled vectors.
        weights: What pads, sinks and the pooled vector count.

    Raises:
        ValueError: Widths or numbers of tokens do not agree, or no token has a partner.
    """
    found, kinds, wanted = _partners(student.float(), teacher, pairs)
    error = found - wanted
    parts = {}
    for name, kind in (("words", WORD), ("pads", PAD), ("sinks", SINK)):
        own = kinds == kind
        if not own.any():
            continue
        if kind == SINK:
            parts[name] = error[own].square().sum() / wanted[own].square().sum()
        else:
            parts[name] = (error[own] / spread.std.to(error)).square().mean()
    if pooled is not None and teacher.pooled is not None and pooled_spread is not None:
        away = (pooled.float() - teacher.pooled.to(pooled.device)) / pooled_spread.std.to(error)
        parts["pooled"] = away.square().mean()
    counts = {"words": 1.0, "pads": weights.pads, "sinks": weights.sinks, "pooled": weights.pooled}
    total = torch.stack([counts[name] * value for name, value in parts.items()]).sum()
    return FeaturesLoss(total, parts)


def _partners(
    student: torch.Tensor, teacher: TextStates, pairs: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The student's states at the teacher's tokens, those tokens' kinds and states."""
    device = student.device
    wanted, kinds = teacher.states.to(device), teacher.kinds.to(device)
    if student.shape[1] != wanted.shape[1]:
        raise ValueError(
            f"The connector gives {student.shape[1]} dimensions, the text encoder "
            f"{wanted.shape[1]}. Make the connector as wide as the target reads."
        )
    if pairs is None:
        if len(student) != len(wanted):
            raise ValueError(
                f"The connector gives {len(student)} tokens, the text encoder {len(wanted)}. "
                "Align them by characters where the tokenizers differ."
            )
        return student, kinds, wanted
    pairs = pairs.to(device)
    there = pairs.any(dim=1)
    if not there.any():
        raise ValueError(
            "No token of the text encoder shares a character with the VLM's: the template writes "
            "the words in another way. Leave `template` empty, or set `features` to 0 and train "
            "with `attention` alone."
        )
    return pairs[there] @ student, kinds[there], wanted[there]
