"""Normalisation: bring tokens to the statistics of the encoder that a target was trained on.

Source: the Qwen3-VL × Z-Image research (text tokens: global; image tokens: per dimension). It
explains per dimension by image tokens that spread up to 617 times as far as the target's text; by
its own numbers it is the other way round. In dimension 396 the reference's std is 949, made by sink
tokens, and 617 times that in one dimension alone would give a std of all values of 11 569, where
the document measures 7.0. So statistics without sink tokens are the default here, and ``robust``
is ours.
"""

import math

import torch

from ..arguments import checked
from ..quoted import told
from .spread import (
    STD_FLOOR,
    center,
    center_ordinary,
    massive_dims,
    sink_tokens,
    std_of_all,
)
from .stats import Stats, need_stats
from .tokens import Tokens

MODES = ("auto", "global", "per_dim", "hybrid", "robust")
ROBUST_TOLERANCE = 0.05  # a robust scale within 1 ± this is already right


@checked
def normalize(
    t: Tokens,
    stats: Stats | None = None,
    mode: str = "auto",
    clip_sigma: float | None = 3.0,
    weight: float = 0.5,
    target_std: float | None = None,
    strength: float = 1.0,
    sinks: bool = False,
) -> Tokens:
    """Normalise tokens towards reference statistics; own statistics are per batch row.

    - ``global``: one factor, so that the std of all values is the reference's, or ``target_std``.
      Not centred.
    - ``per_dim``: z-score per dimension over the tokens (std with N - 1, floor 1e-6), clipped at
      ``clip_sigma``, then times the reference's std plus its mean. Sink tokens among these stay as
      they are.
    - ``hybrid``: ``weight`` · per_dim + (1 - ``weight``) · global.
    - ``robust``: one factor that ignores massive dimensions and sink tokens, see ``robust_scale``.
      They themselves are never enlarged: a dimension that is massive in these tokens, and a sink
      token, takes the factor only where it shrinks.
    - ``auto``: see ``resolve_mode``.

    Sink tokens (``spread.sink_tokens``) count in no mean and no std, neither the tokens' own nor
    the reference's (``Stats.ordinary``): their massive dimensions would become everybody's.
    With ``sinks`` all tokens count, as published. Asked for by its name, ``global`` is always the
    published one; under auto and hybrid its factor is that of ordinary tokens.

    Args:
        t: ``[B, N, D]``.
        stats: reference of width D; global does without when ``target_std`` is given.
        clip_sigma: in std; None or 0 = no clip. Of per_dim and hybrid.
        weight: share of per_dim in hybrid, 0..1.
        target_std: in the states' own unit; takes the place of the reference's std of all values.
            It is one of all tokens, as published (Qwen3-4B's 61), so the tokens' own then is too.
        strength: 0..1, how far to go from the tokens as they are (0, bit for bit) to the result.
        sinks: True = the published way of per_dim, hybrid and auto. ``robust`` never counts sinks.

    Returns:
        ``[B, N, D]``, computed in float32, in the input's dtype and with its map.

    Raises:
        ValueError: no reference where one is needed, widths that differ, one token where a spread
            over tokens is needed, or a setting out of its range.
    """
    sinks = sinks or mode == "global"
    mode = resolve_mode(t, mode)
    _check_settings(clip_sigma, weight, target_std, strength)
    if strength == 0:
        return t
    x = t.states.float()
    if mode == "robust":
        out = _robust(t, x, stats)
    elif mode == "global":
        out = x * _global_scale(t, x, stats, target_std, sinks)
    else:
        out = _per_dim(t, x, stats, clip_sigma, mode, sinks)
        if mode == "hybrid":
            scale = _global_scale(t, x, stats, target_std, sinks)
            out = out.mul_(weight).add_(x * ((1 - weight) * scale))
    if out is x:
        return t
    return t.with_states(out if strength == 1 else torch.lerp(x, out, strength))


def resolve_mode(t: Tokens, mode: str) -> str:
    """What ``mode`` does with these tokens: ``auto`` becomes per_dim or global, others stay.

    ``auto`` is global for text only; per_dim as soon as one token is an image token or may be one
    (role unknown, or no token map), because image tokens lack the few massive dimensions that carry
    the reference's std, and one factor would blow up all others.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"There is no `mode` {told(mode)}. Modes: {', '.join(MODES)}.")
    if mode != "auto":
        return mode
    if t.token_map is None or {"image", "unknown"} & set(t.token_map["role"]):
        return "per_dim"
    return "global"


def robust_scale(t: Tokens, stats: Stats) -> torch.Tensor:
    """The factor of mode ``robust``: median over ordinary dimensions of reference std / own std.

    Own std is taken without sink tokens (norm over 5 times the row's median), the reference's too
    where it was measured here (``Stats.std_without_sinks``). Left out are massive dimensions (std
    over 10 times the median std, in the tokens or in the reference) and constant ones. The median
    std of few tokens is too small; that is corrected on both sides (the reference's by its count).
    A factor within 5 % of 1 becomes 1.

    Args:
        t: ``[B, N, D]``, at least two tokens.
        stats: reference of width D.

    Returns:
        ``[B]`` float32.

    Raises:
        ValueError: no reference, widths that differ, or one token.
    """
    stats = need_stats(stats, t, "Mode robust")
    x = t.states.float()
    return _robust_rows(x, sink_tokens(x), stats)[0]


def _robust(t: Tokens, x: torch.Tensor, stats: Stats | None) -> torch.Tensor:
    """x times the robust factor; x itself if that is 1 in every row."""
    sink = sink_tokens(x)
    scale, massive = _robust_rows(x, sink, need_stats(stats, t, "Mode robust"))
    if (scale == 1).all():
        return x
    factor = scale[:, None].expand_as(massive)
    shrink = factor.clamp(max=1)
    out = x * torch.where(massive, shrink, factor)[:, None]
    return torch.where(sink[:, :, None], x * shrink[:, None], out) if sink.any() else out


def _robust_rows(
    x: torch.Tensor, sink: torch.Tensor, stats: Stats
) -> tuple[torch.Tensor, torch.Tensor]:
    """Robust factor [B], and which dimensions are massive in these tokens [B, D]."""
    reference = stats.std if stats.std_without_sinks is None else stats.std_without_sinks
    reference = reference.to(x.device)
    expected = _median_of_std(stats.count)
    scales, massives = [], []
    for row, off in zip(x, sink, strict=True):
        row = row[~off] if off.any() else row
        std = center(row[None], "Mode robust", "choose mode global")[2][0, 0]
        massive = massive_dims(std)
        constant = (std <= STD_FLOOR) | (reference <= STD_FLOOR)
        ordinary = ~(massive | constant | massive_dims(reference))
        scale = std.new_ones(())
        if ordinary.any():
            scale = (reference[ordinary] / std[ordinary]).median()
            scale = scale * (_median_of_std(len(row)) / expected)
        scales.append(torch.where((scale - 1).abs() <= ROBUST_TOLERANCE, 1.0, scale))
        massives.append(massive)
    return torch.stack(scales), torch.stack(massives)


def _median_of_std(n: int | None) -> float:
    """Median of the std of n normal values of std 1, after Wilson and Hilferty; 1 for many."""
    return 1.0 if n is None or n < 2 else (1 - 2 / (9 * (n - 1))) ** 1.5


def _per_dim(
    t: Tokens,
    x: torch.Tensor,
    stats: Stats | None,
    clip_sigma: float | None,
    mode: str,
    sinks: bool,
) -> torch.Tensor:
    """Clipped z-score on the reference's mean and std; new memory."""
    stats = need_stats(stats, t, f"Mode {mode}")
    words, sink = (f"Mode {mode}", "choose mode global"), None
    if sinks:
        (z, _, own), (mean, std) = center(x, *words), (stats.mean, stats.std)
    else:
        (z, _, own, sink), (mean, std) = center_ordinary(x, *words), stats.ordinary()
    z.div_(own.clamp_min_(STD_FLOOR))
    if clip_sigma:
        most = float(clip_sigma)  # torch takes no whole number of more than 64 bits
        z.clamp_(-most, most)
    z.mul_(std.to(x.device)).add_(mean.to(x.device))
    return z if sink is None or not sink.any() else torch.where(sink[:, :, None], x, z)


def _global_scale(
    t: Tokens, x: torch.Tensor, stats: Stats | None, target_std: float | None, sinks: bool
) -> torch.Tensor:
    """Factor [B, 1, 1] to the std of all values that the reference has."""
    if target_std is not None:
        return float(target_std) / std_of_all(x).clamp_min(STD_FLOOR)
    stats = need_stats(stats, t, "Mode global")
    wanted = stats.global_std if sinks else stats.ordinary_std_of_all()
    return wanted / std_of_all(x, sinks).clamp_min(STD_FLOOR)


def _check_settings(
    clip_sigma: float | None, weight: float, target_std: float | None, strength: float
) -> None:
    for name, value in (("weight", weight), ("strength", strength)):
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` goes from 0 to 1, this is {value}.")
    if clip_sigma is not None and not clip_sigma >= 0:
        raise ValueError(f"`clip_sigma` is a number of std, 0 for no clip; this is {clip_sigma}.")
    if target_std is not None and not (math.isfinite(target_std) and target_std > 0):
        raise ValueError(f"`target_std` is a std over 0 (Qwen3-4B's is 61), this is {target_std}.")
