"""Padding as connectors that read every token were trained with: mostly on the left."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..quoted import told

AUTO, NONE, LEFT, RIGHT = "auto", "none", "left", "right"
PADDINGS = (AUTO, NONE, LEFT, RIGHT)


@dataclass(frozen=True)
class Padding:
    """How far a prompt is padded, and on which side.

    Attributes:
        least: Fewest tokens.
        factor: Fewest tokens as a multiple of the prompt's own.
        cut: Whether a prompt of more than `least` tokens loses what is behind them.
        side: `left` or `right`.
    """

    least: int = 512
    factor: float = 1.0
    cut: bool = False
    side: str = LEFT

    def length(self, tokens: int) -> int:
        """Tokens of the sequence that a prompt of so many becomes."""
        return max(self.least, int(self.factor * tokens))


def choose_padding(choice: str, own: Padding | None, pad_side: str) -> Padding | None:
    """The padding that a choice means, beside that on the right which belongs to a target.

    Args:
        choice: `auto` = the template's where the target leaves it to the template; `none`; `left`
            and `right` = in front or behind, to the template's length or 512 tokens.
        own: The template's; None = it has none.
        pad_side: The target's.

    Raises:
        ValueError: Another choice.
    """
    if choice not in PADDINGS:
        raise ValueError(f"padding is {told(choice)}; choose one of: {', '.join(PADDINGS)}.")
    if choice in (LEFT, RIGHT):
        chosen = own or Padding()
        return chosen if chosen.side == choice else replace(chosen, side=choice)
    return own if choice == AUTO and pad_side == LEFT else None
