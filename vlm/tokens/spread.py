"""Spread: means and standard deviations of tokens; sink tokens and massive dimensions.

Every std is with N - 1, as in the Qwen3-VL × Z-Image research's code.

A language model puts values thousands of times the usual into a few dimensions of a few tokens,
mostly the first: "massive activations" (Sun et al. 2024, arXiv 2402.17762: over 100, and about a
thousand times the median of all values). Tokens that carry them collect attention and hold no
content: "attention sinks" (Xiao et al. 2023, arXiv 2309.17453). Here they are found by what they do
to statistics: a token whose norm is many times the median, a dimension whose std is.
"""

import math

import torch

STD_FLOOR = 1e-6  # of every std that something is divided by, as in the research's code
SINK_FACTOR = 5.0  # a token whose norm is over so many times the median norm is a sink token
MASSIVE_FACTOR = 10.0  # a dimension whose std is over so many times the median std is massive


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
            f"tokens; there is 1. Set `keep` to more roles, or {instead}."
        )
    mean = x.mean(dim=1, keepdim=True)
    centered = x - mean
    # The norm of what was centred anyway: on a CPU several times faster than torch.std over dim 1.
    std = torch.linalg.vector_norm(centered, dim=1, keepdim=True).div_(math.sqrt(n - 1))
    return centered, mean, std


def center_ordinary(
    x: torch.Tensor, doing: str, instead: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """As ``center``, with mean and std of the tokens that are no sinks; all are centred.

    Returns:
        ``(x - mean, mean, std, sinks [B, N])``; without sinks the same bits as ``center``.

    Raises:
        ValueError: fewer than two tokens.
    """
    sink = sink_tokens(x)
    if not sink.any():
        return *center(x, doing, instead), sink
    kept = [center(row[None, ~off], doing, instead)[1:] for row, off in zip(x, sink, strict=True)]
    mean, std = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return x - mean, mean, std, sink


def sink_tokens(x: torch.Tensor) -> torch.Tensor:
    """Which tokens are sinks: norm over ``SINK_FACTOR`` times the median norm of their row.

    In Qwen3-4B's penultimate layer a sink's norm is some fifty times the median, that of ordinary
    tokens within twice of it; so the factor is not critical.

    Args:
        x: ``[B, N, D]`` float32.

    Returns:
        ``[B, N]`` bool. All False in a row where fewer than two tokens would be left.
    """
    norm = torch.linalg.vector_norm(x, dim=2)
    median = norm.median(dim=1, keepdim=True).values
    sink = (norm > SINK_FACTOR * median) & (median > 0)
    return sink & ((~sink).sum(dim=1, keepdim=True) >= 2)


def massive_dims(std: torch.Tensor) -> torch.Tensor:
    """Which dimensions are massive: std over ``MASSIVE_FACTOR`` times the median std.

    Args:
        std: ``[D]``; constant dimensions do not count for the median.

    Returns:
        ``[D]`` bool.
    """
    varied = std[std > STD_FLOOR]
    return std > MASSIVE_FACTOR * (varied if varied.numel() else std).median()


def std_of_all(x: torch.Tensor, sinks: bool = True) -> torch.Tensor:
    """Std (N - 1) of all values of each row: ``[B, N, D]`` float32 to ``[B, 1, 1]``.

    Args:
        x: the tokens.
        sinks: whether sink tokens count.

    Raises:
        ValueError: a row of a single value.
    """
    if x.shape[1] * x.shape[2] < 2:
        raise ValueError("The std of all values needs at least 2 values per row; there is 1.")
    sink = None if sinks else sink_tokens(x)
    if sink is None or not sink.any():
        return torch.stack([row.std() for row in x])[:, None, None]
    rows = [row[~off].std() for row, off in zip(x, sink, strict=True)]
    return torch.stack(rows)[:, None, None]
