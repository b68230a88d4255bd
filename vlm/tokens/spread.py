"""Spread: means and standard deviations of tokens, over tokens or over all values.

Every std is with N - 1, as in the Qwen3-VL × Z-Image research's code.
"""

import math

import torch

STD_FLOOR = 1e-6  # of every std that something is divided by, as in the research's code
SINK_FACTOR = 5.0  # a token whose norm is over so many times the median norm is a sink token


def center(
    x: torch.Tensor, doing: str, instead: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and std over the tokens of each row.

    Args:
        x: ``[B, N, D]`` float32; not changed.
        doing, instead: name in the error what needs a spread, and what would do without.

    Returns:
        ``(x - mean [B, N, D], mean [B, 1, D], std [B, 1, D])``, std with N - 1. The first is new
        memory.

    Raises:
        ValueError: fewer than two tokens.
    """
    n = x.shape[1]
    if n < 2:
        raise ValueError(
            f"{doing} measures the spread of each dimension over the tokens and needs at least 2 "
            f"tokens; there is 1. Keep more in Token Filter, or {instead}."
        )
    mean = x.mean(dim=1, keepdim=True)
    centered = x - mean
    # The norm of what was centred anyway: on a CPU several times faster than torch.std over dim 1.
    std = torch.linalg.vector_norm(centered, dim=1, keepdim=True).div_(math.sqrt(n - 1))
    return centered, mean, std


def sink_tokens(x: torch.Tensor) -> torch.Tensor:
    """Which tokens are sinks: norm over ``SINK_FACTOR`` times the median norm of their row.

    Sink tokens (mostly the first) collect attention and carry massive activations in a few
    dimensions; their std says nothing about the other tokens.

    Args:
        x: ``[B, N, D]`` float32.

    Returns:
        ``[B, N]`` bool. All False in a row where fewer than two tokens would be left.
    """
    norm = torch.linalg.vector_norm(x, dim=2)
    median = norm.median(dim=1, keepdim=True).values
    sink = (norm > SINK_FACTOR * median) & (median > 0)
    return sink & ((~sink).sum(dim=1, keepdim=True) >= 2)


def std_of_all(x: torch.Tensor) -> torch.Tensor:
    """Std (N - 1) of all values of each row: ``[B, N, D]`` float32 to ``[B, 1, 1]``.

    Raises:
        ValueError: a row of a single value.
    """
    if x.shape[1] * x.shape[2] < 2:
        raise ValueError("The std of all values needs at least 2 values per row; there is 1.")
    return torch.stack([row.std() for row in x])[:, None, None]
