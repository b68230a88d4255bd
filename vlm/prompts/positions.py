"""M-RoPE positions: one (time, row, column) triple per token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class VisionBlock:
    """A run of image tokens that share one grid.

    Attributes:
        start: Index of its first token.
        frames: Grid steps in time.
        rows: Grid rows after the VLM's merge.
        cols: Grid columns after the merge.
        time_step: Temporal positions from one grid step to the next.
    """

    start: int
    frames: int
    rows: int
    cols: int
    time_step: float = 1.0

    @property
    def length(self) -> int:
        """Tokens of the block."""
        return self.frames * self.rows * self.cols


def mrope_positions(n: int, blocks: Sequence[VisionBlock], left: int = 0) -> torch.Tensor:
    """Positions of a sequence of text and vision blocks (Qwen2-VL report, section 2.1).

    Text counts up on all three axes together. A block starts where the text stopped, spreads over
    time, rows and columns, and the text after it goes on above the block's largest position.

    Args:
        n: Tokens of the sequence.
        blocks: Its vision blocks, in order of their start.
        left: Pad tokens in front, which stand at 1 and count for nothing, as transformers has it.

    Returns:
        int64 [3, n]: time, row, column; origin 0.
    """
    parts: list[torch.Tensor] = [torch.ones(3, left, dtype=torch.int64)]
    token, position = left, 0
    for block in blocks:
        parts.append(torch.arange(position, position + block.start - token).expand(3, -1))
        position += block.start - token
        steps = (torch.arange(block.frames, dtype=torch.float64) * block.time_step).long()
        time = steps.repeat_interleave(block.rows * block.cols)
        row = torch.arange(block.rows).repeat_interleave(block.cols).repeat(block.frames)
        col = torch.arange(block.cols).repeat(block.frames * block.rows)
        grid = torch.stack([time, row, col]) + position
        parts.append(grid)
        position = int(grid.max()) + 1
        token = block.start + block.length
    parts.append(torch.arange(position, position + n - token).expand(3, -1))
    return torch.cat(parts, dim=1)
