"""Padding on the left, as connectors that read every token were trained with."""

from __future__ import annotations

from dataclasses import dataclass

AUTO, NONE, LEFT = "auto", "none", "left"
PADDINGS = (AUTO, NONE, LEFT)


@dataclass(frozen=True)
class Padding:
    """How far a prompt is padded on the left.

    Attributes:
        least: Fewest tokens.
        factor: Fewest tokens as a multiple of the prompt's own.
        cut: Whether a prompt of more than `least` tokens loses what is behind them.
    """

    least: int = 512
    factor: float = 1.0
    cut: bool = False

    def length(self, tokens: int) -> int:
        """Tokens of the sequence that a prompt of so many becomes."""
        return max(self.least, int(self.factor * tokens))


def choose_padding(choice: str, own: Padding | None, pad_side: str) -> Padding | None:
    """The left padding that a choice means.

    Args:
        choice: `auto` = the template's where the target pads on the left; `none`; `left` = the
            template's, or to 512 tokens.
        own: The template's; None = it has none.
        pad_side: The target's.

    Raises:
        ValueError: Another choice.
    """
    if choice not in PADDINGS:
        raise ValueError(f"padding is {choice!r}; choose one of: {', '.join(PADDINGS)}.")
    if choice == LEFT:
        return own or Padding()
    return own if choice == AUTO and pad_side == LEFT else None
