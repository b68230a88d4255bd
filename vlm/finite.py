"""NaN and Inf: of one of them a sampler makes a black picture, so that none goes on."""

from __future__ import annotations

import torch

OVERFLOW = "float16 overflows in many models: encode it again with `dtype` bfloat16 or float32."
LOUD = "Lower weights, gains or strengths, or set `dtype` to float32."


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds neither NaN nor Inf; one of whole numbers holds none.

    The smallest and the largest number say so, which a NaN takes the place of: one pass and no
    memory.

    Args:
        tensor: Of any shape and dtype, on any device.
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.dtype.itemsize == 1:  # float8 has no arithmetic
        tensor = tensor.float()
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def need_finite(states: torch.Tensor, what: str, advice: str) -> None:
    """Refuses tokens with NaN or Inf.

    Args:
        states: ``[B, N, D]``.
        what: Whose they are, as the message begins.
        advice: How to mend it, a sentence.

    Raises:
        ValueError: Some are; says how many tokens and which is the first.
    """
    if is_finite(states):
        return
    bad = (~torch.isfinite(states)).any(dim=2).any(dim=0).nonzero().flatten().tolist()
    raise ValueError(
        f"{what} holds NaN or Inf in {len(bad)} of {states.shape[1]} tokens, the first is token "
        f"{bad[0]}; finite numbers were expected. {advice}"
    )
