"""Style delta: what a style adds to tokens, and adding it to others.

Source: the Qwen3-VL × Z-Image research: encode a styled and a neutral picture of the same thing;
the difference of their tokens is the style. Its author later wrote that it destroys the content
even at alpha 0.3; that was with the published std, which counts sink tokens.
"""

import math

import torch

from ..arguments import checked
from .blend import check_pair, resample
from .spread import STD_FLOOR, std_of_all
from .tokens import Tokens


@checked
def style_delta(styled: Tokens, neutral: Tokens, unit_std: bool = True) -> Tokens:
    """The style in ``styled``: styled - neutral.

    Args:
        styled: ``[B, N, D]``.
        neutral: ``[B, M, D]``, resampled linearly to N tokens where M differs; one batch may be 1.
        unit_std: divide by the std (N - 1) of all values of the row; the mean is left in.

    Returns:
        ``[B, N, D]``, computed in float32, in styled's dtype and with its map. All zeros where both
        inputs are the same.

    Raises:
        ValueError: batches or widths that differ.
    """
    check_pair(styled, neutral, "styled and neutral", "`style_delta`")
    a = styled.states.float()
    delta = a - resample(neutral.states.to(a.device).float(), styled.n)
    if unit_std:
        delta.div_(std_of_all(delta).clamp_min_(STD_FLOOR))
    return styled.with_states(delta)


@checked
def add_style(
    text: Tokens,
    delta: Tokens,
    alpha: float = 0.3,
    match_std: bool = True,
    sinks: bool = False,
) -> Tokens:
    """Add a style to a text's tokens: text + alpha · delta.

    Args:
        text: ``[B, N, D]``.
        delta: ``[B, M, D]`` from ``style_delta``, resampled linearly to N tokens; one batch may be
            1.
        alpha: strength; 0 returns ``text`` itself, below 0 takes the style away.
        match_std: scale the delta first by the text's std / its own (of all values of the row,
            after resampling), so that alpha means the same for every text and layer.
        sinks: whether sink tokens count in the text's std, as published. One alone makes it some
            eight times that of the other tokens, and the delta as much too loud. In the delta they
            always count: in a difference they mostly cancel, and what is left makes it quieter.

    Returns:
        ``[B, N, D]``, computed in float32, in the text's dtype and with its map.

    Raises:
        ValueError: batches or widths that differ, or alpha is NaN or Inf.
    """
    check_pair(text, delta, "text and delta", "`add_style`")
    if not math.isfinite(alpha):
        raise ValueError(f"`alpha` of `add_style` is a number (0 = no style), this is {alpha}.")
    if alpha == 0:
        return text
    alpha = float(alpha)  # torch takes no whole number of more than 64 bits
    a = text.states.float()
    d = resample(delta.states.to(a.device).float(), text.n)
    if not match_std:
        return text.with_states(torch.add(a, d, alpha=alpha))
    scale = std_of_all(a, sinks) / std_of_all(d).clamp_min_(STD_FLOOR)
    return text.with_states(torch.addcmul(a, d, scale, value=alpha))
