"""Outlier masks: dimensions that spread far more than in the reference.

Source: the Qwen3-VL × Z-Image research. Its example, dimension 396 of image tokens 617 times as
wide as in the target's text, is the other way round by its own numbers (see ``normalize``): there
the text has the massive dimension, and a mask against it finds little in image tokens.
"""

import torch

from ..arguments import checked
from ..quoted import told
from .spread import STD_FLOOR, center, center_ordinary
from .stats import Stats, need_stats
from .tokens import Tokens

OUTLIER_MODES = ("zero", "clamp", "scale")


@checked
def mask_outliers(
    t: Tokens,
    stats: Stats | None,
    mode: str = "clamp",
    threshold: float = 10.0,
    sinks: bool = False,
) -> Tokens:
    """Tame the dimensions whose std exceeds ``threshold`` times the reference's, per batch row.

    ``zero`` sets the whole dimension to 0. ``clamp`` multiplies it so that its std becomes
    ``threshold`` times the reference's, mean included; ``scale`` is the same arithmetic in the
    published code, and so it is here.

    Args:
        t: ``[B, N, D]``, at least two tokens.
        stats: reference of width D.
        mode: zero | clamp | scale.
        threshold: own std / reference std (std with N - 1 over tokens), over 0.
        sinks: whether sink tokens count in both, as published. Without them a dimension is no
            outlier for one sink's sake, and none hides behind the reference's sinks; a reference
            measured elsewhere counts as it is. The factor then goes to all tokens.

    Returns:
        ``[B, N, D]`` in the input's dtype with its map; ``t`` itself if no dimension is an outlier.

    Raises:
        ValueError: unknown mode, no reference, widths that differ, one token, threshold not over 0.
    """
    if mode not in OUTLIER_MODES:
        raise ValueError(
            f"Outlier masks do not know mode {told(mode)}. Modes: {', '.join(OUTLIER_MODES)}."
        )
    ratio = _ratio(t, stats, threshold, sinks)
    threshold = float(threshold)  # torch takes no whole number of more than 64 bits
    outlier = ratio > threshold
    if not outlier.any():
        return t
    if mode == "zero":
        return t.with_states(t.states.masked_fill(outlier, 0))
    return t.with_states(t.states.float() * torch.where(outlier, threshold / ratio, 1.0))


def outlier_dims(
    t: Tokens, stats: Stats | None, threshold: float = 10.0, sinks: bool = False
) -> list[int]:
    """The dimensions, from 0, that ``mask_outliers`` would change in any batch row."""
    outlier = _ratio(t, stats, threshold, sinks) > float(threshold)
    return outlier.any(dim=0).flatten().nonzero().flatten().tolist()


def _ratio(t: Tokens, stats: Stats | None, threshold: float, sinks: bool) -> torch.Tensor:
    """Own std / reference std, [B, 1, D]."""
    if not threshold > 0:
        raise ValueError(f"The threshold of outlier masks is a factor over 0, this is {threshold}.")
    stats = need_stats(stats, t, "An outlier mask")
    measured = None if sinks else stats.std_without_sinks
    reference = (stats.std if measured is None else measured).to(t.states.device)
    spread = center if sinks else center_ordinary
    own = spread(t.states.float(), "An outlier mask", "take the mask out")[2]
    return own / reference.clamp_min(STD_FLOOR)
