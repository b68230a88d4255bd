"""M-RoPE positions: one (time, row, column) triple per token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

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

    def places(self) -> torch.Tensor:
        """Positions int64 [3, length] from the block's first on."""
        steps = (torch.arange(self.frames, dtype=torch.float64) * self.time_step).long()
        time = steps.repeat_interleave(self.rows * self.cols)
        row = torch.arange(self.rows).repeat_interleave(self.cols).repeat(self.frames)
        col = torch.arange(self.cols).repeat(self.frames * self.rows)
        return torch.stack([time, row, col])

    @property
    def span(self) -> int:
        """Positions from the block's first to that of the token behind it."""
        return int(self.places().max()) + 1


@dataclass(frozen=True)
class FilmBlock:
    """A video with its sound between its frames, and the two markers before and behind both.

    Source: Qwen2.5-Omni's report, section 2.2 (TMRoPE), and `get_rope_index` of transformers.

    Attributes:
        start: Index of the first marker.
        video: The video's own block.
        stretches: Tokens of the video and of the sound in each stretch of time, in their order.
    """

    start: int
    video: VisionBlock
    stretches: tuple[tuple[int, int], ...]

    @property
    def length(self) -> int:
        """Tokens of the block."""
        return 4 + sum(map(sum, self.stretches))

    def places(self) -> torch.Tensor:
        """Positions int64 [3, length] from the block's first on: each marker stands beside one."""
        sound = torch.arange(sum(heard for _, heard in self.stretches)).expand(3, -1)
        parts, seen, heard = [], 0, 0
        video = self.video.places()
        for frames, sounds in self.stretches:
            parts += [video[:, seen : seen + frames], sound[:, heard : heard + sounds]]
            seen, heard = seen + frames, heard + sounds
        parts = [part + 1 for part in parts if part.shape[1]]
        markers = torch.zeros(3, 2, dtype=torch.int64)
        # The last stretch says where it goes on, as the family's own class has it.
        return torch.cat([markers, *parts, markers + parts[-1].max() + 1], dim=1)

    @property
    def span(self) -> int:
        """Positions from the block's first to that of the token behind it."""
        return int(self.places()[0, -1]) + 1


def stretches_of(video: VisionBlock, sounds: int, step: int) -> tuple[tuple[int, int], ...]:
    """Tokens of a video and of its sound in each stretch of time.

    Args:
        video: Its block; `time_step` in the sound's tokens.
        sounds: Tokens of the sound.
        step: Tokens of the sound in one stretch.
    """
    size = video.rows * video.cols
    seen = [frame * video.time_step for frame in range(video.frames) for _ in range(size)]
    heard = _in_stretches(range(sounds), step)
    return tuple(zip_longest(_in_stretches(seen, step), heard, fillvalue=0))


def _in_stretches(times: Sequence[float], step: int) -> list[int]:
    """How many of ascending times, one a token, fall into each stretch.

    As the family's own class has it: a token begins at most one stretch, so that after a pause of
    several the first tokens behind it have one each.
    """
    counts = [0]
    for time in times:
        if time >= len(counts) * step:
            counts.append(0)
        counts[-1] += 1
    return counts


Block = VisionBlock | FilmBlock


def mrope_positions(n: int, blocks: Sequence[Block], left: int = 0) -> torch.Tensor:
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
        parts.append(block.places() + position)
        position += block.span
        token = block.start + block.length
    parts.append(torch.arange(position, position + n - token).expand(3, -1))
    return torch.cat(parts, dim=1)
