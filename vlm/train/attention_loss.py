"""X2I's attention distillation: a student's attention outputs made like a teacher's.

Source: X2I, section 3.5, and its train/train_qwenvl.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..arguments import checked

STD_EPS = 1e-7  # X2I adds it to the std
TEMPERATURE = 3.0


@checked
def attention_loss(
    student: Sequence[torch.Tensor],
    teacher: Sequence[torch.Tensor],
    temperature: float = TEMPERATURE,
) -> torch.Tensor:
    """The sum of `block_loss` over attention outputs.

    Args:
        student: One tensor [B, N, D] per block and stream, floating point.
        teacher: As many, of the same shapes; no gradient flows into them.
        temperature: Softens both sides; 3 is X2I's.

    Returns:
        A scalar in float32, on the student's device.

    Raises:
        ValueError: No outputs, another number or shape of them, a temperature that is not above 0.
    """
    if not student or len(student) != len(teacher):
        raise ValueError(
            f"The student has {len(student)} attention outputs, the teacher {len(teacher)}. Both "
            "run the same blocks, one at least."
        )
    pairs = zip(student, teacher, strict=True)
    return torch.stack([block_loss(ours, theirs, temperature) for ours, theirs in pairs]).sum()


@checked
def block_loss(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float = TEMPERATURE
) -> torch.Tensor:
    """KL(student || teacher) of one attention output, summed over tokens, per item of the batch.

    Each token is standardised over its dimensions (std with N - 1) and read as the logits of a
    distribution over them.

    Args:
        student, teacher: [B, N, D], D at least 2.
        temperature: Softens both sides.

    Returns:
        A scalar in float32. NaN or Inf on either side stays: a caller stops there.

    Raises:
        ValueError: Two shapes; a temperature that is not above 0.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"`temperature` is {temperature}, expected a number above 0.")
    if student.shape != teacher.shape:
        raise ValueError(
            f"The student's attention output is {list(student.shape)}, the teacher's "
            f"{list(teacher.shape)}. Give both the same number of tokens: pad or cut the captions "
            "to one length."
        )
    ours = _log_shares(student, temperature)
    theirs = _log_shares(teacher.detach().to(student.device), temperature)
    return (ours.exp() * (ours - theirs)).sum() / len(student)


def _log_shares(output: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logarithms of the distribution that each token of [B, N, D] stands for, float32."""
    output = output.float()
    centered = output - output.mean(dim=-1, keepdim=True)
    standard = centered / (output.std(dim=-1, keepdim=True) + STD_EPS)
    return torch.log_softmax(standard / temperature, dim=-1)
