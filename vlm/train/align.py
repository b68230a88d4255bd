"""Which tokens of two tokenizers stand for the same characters."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Span = tuple[int, int]  # characters [start, end) of a caption; empty = none of it


def align_characters(student: Sequence[Span], teacher: Sequence[Span]) -> torch.Tensor:
    """What each of the teacher's tokens is made of, by the characters it shares.

    Args:
        student: Characters that each of the student's tokens stands for.
        teacher: The same of the teacher's.

    Returns:
        [teacher's tokens, student's tokens] float32. Each row holds the shares of the teacher's
        characters that lie in each of the student's tokens, and sums to 1; it is all 0 where the
        two have no character in common.
    """
    ours, theirs = (torch.tensor(spans).view(-1, 2) for spans in (list(student), list(teacher)))
    start = torch.maximum(theirs[:, None, 0], ours[None, :, 0])
    stop = torch.minimum(theirs[:, None, 1], ours[None, :, 1])
    shared = (stop - start).clamp(min=0).float()
    return shared / shared.sum(dim=1, keepdim=True).clamp(min=1)
