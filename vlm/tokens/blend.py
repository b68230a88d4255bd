"""Blend: mix a picture's tokens into the text's.

Sources: the Qwen3-VL × Z-Image research (interpolate, truncate, AdaIN, schedules), Qwen2VL-Flux
(concat: image tokens, then text tokens). pool and auto are ours.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..arguments import checked
from ..quoted import told
from ..token_map import join, new_map
from .alphas import SCHEDULES, schedule_alphas
from .beside import join as join_beside
from .pooling import pool_to
from .spread import STD_FLOOR, center, std_of_all
from .tokens import Tokens

METHODS = (
    "auto",
    "pool",
    "interpolate",
    "truncate",
    "concat",
    "adain_per_dim",
    "adain_per_token",
    "adain_global",
)


@checked
def blend(
    vl: Tokens,
    text: Tokens,
    alpha: float | Sequence[float] = 0.3,
    method: str = "auto",
    schedule: str = "constant",
    cut: bool = False,
    schedule_start: float = 0.0,
) -> Tokens:
    """Blend a picture's tokens with the text's.

    - ``auto``: pool where vl is longer than the text, else interpolate.
    - ``pool``: vl pooled to the text's length by ``pooling.pool_to``, so that every one of its
      tokens counts, then alpha·vl + (1 - alpha)·text. Where vl is shorter it is interpolated, which
      reads all of it too.
    - ``interpolate``: vl resampled linearly to the text's length, then the same mix. Two of vl's
      tokens are read for each of the text's: of 576 for a text of 17 it reads 34, on a grid of
      24 x 24 for a text of 24 two columns in the middle. The published way.
    - ``truncate``: both cut to the shorter length, then the same mix; of a longer picture only the
      first tokens, its top rows, are read. Published too.
    - ``adain_per_dim``, ``adain_per_token``, ``adain_global``: both cut to the shorter length; the
      text's mean and std (over tokens, over dimensions, over all values) are moved to vl's, and
      that is mixed with the text by alpha. As published, so sink tokens count in these spreads:
      with one in the text, ``adain_global`` makes all other tokens of the text about as much
      smaller as the sink is larger, and ``adain_per_dim`` shrinks the sink to an ordinary token.
      Nothing is recommended of them; ``normalize`` measures without sinks.
    - ``concat``: vl's tokens, then the text's, both as they are: alpha and schedule scale nothing
      here, but alpha 0 leaves the picture out. The maps are joined and the text's image numbers
      shifted past vl's.

    ``alpha`` 0 returns ``text`` itself. As in the published code, ``truncate`` at a constant alpha
    of 1 returns vl uncut, so the length jumps at both ends; with ``cut`` truncate has the shorter
    length throughout.

    Args:
        vl: ``[B, N, D]``, the picture's side.
        text: ``[B, M, D]``; one of the two batches may be 1. Options, dtype and device follow it.
        alpha: share of vl, 0..1. Over 0.5 the picture overrides the words; recommended 0.3. A
            list has one for each token of the result, and knows no schedule; not for concat.
        method: see above.
        schedule: alpha per token of the result, see ``alphas.schedule_alphas``.
        cut: truncate: the shorter length also at alpha 0 and 1.
        schedule_start: alpha of the first token, 0..1, where the schedule is not constant.

    Returns:
        ``[B, K, D]`` in the text's dtype, computed in float32; K = M for auto, pool and
        interpolate, N + M for concat, else min(N, M). With the text's map, except concat (joined)
        and what is vl itself.

    Raises:
        ValueError: an unknown method or schedule, alpha outside 0..1, another number of alphas
            than tokens, batches or widths that differ.
    """
    start = 0.0 if schedule == "constant" else schedule_start
    _check(vl, text, (alpha, start), method, schedule)
    method = resolve_method(vl, text, method)
    cuts = method not in ("pool", "interpolate", "concat")
    if alpha == 0 and start == 0:
        cut_at_once = cut and method == "truncate"
        return first_tokens(text, min(vl.n, text.n)) if cut_at_once else text
    if method == "concat":
        return _concat(vl, text)
    if method == "truncate" and alpha == 1 and schedule == "constant" and not cut:
        return replace(vl, states=_like(vl.states, text.states))
    if cuts:
        n = min(vl.n, text.n)
        vl, text = first_tokens(vl, n), first_tokens(text, n)
    a, b = text.states.float(), vl.states.to(text.states.device).float()
    if method == "pool":
        b = pool_to(vl, text.n).to(a.device)
    elif method == "interpolate":
        b = resample(b, text.n)
    elif method != "truncate":
        b = _adain(a, b, method)
    if not isinstance(alpha, int | float):
        alphas = _listed(alpha, text.n)
    elif schedule == "constant":
        return text.with_states(torch.lerp(a, b, alpha))
    else:
        alphas = schedule_alphas(alpha, text.n, schedule, start)
    return text.with_states(torch.lerp(a, b, alphas.to(a.device)[:, None]))


def resolve_method(vl: Tokens, text: Tokens, method: str) -> str:
    """What ``method`` does with these: auto and pool become pool or interpolate, others stay."""
    if method not in ("auto", "pool"):
        return method
    return "pool" if vl.n > text.n else "interpolate"


def resample(x: torch.Tensor, n: int) -> torch.Tensor:
    """Resample tokens linearly to another length, half-pixel centres (``align_corners=False``).

    Args:
        x: ``[B, N, D]`` floating point; returned itself where N is n.
        n: number of tokens of the result.

    Returns:
        ``[B, n, D]``.
    """
    have = x.shape[1]
    if have == n:
        return x
    # Gathers the 2 n rows that are read instead of transposing all of x, as interpolate would need.
    at = ((torch.arange(n, dtype=torch.float64) + 0.5) * (have / n) - 0.5).clamp_(0, have - 1)
    low = at.floor()
    high = (low + 1).clamp_(max=have - 1)
    share = (at - low).to(x.device, x.dtype)
    below, above = (x.index_select(1, i.long().to(x.device)) for i in (low, high))
    return torch.lerp(below, above, share[:, None])


def first_tokens(t: Tokens, n: int) -> Tokens:
    """The first n tokens with their map; ``t`` itself if it has no more."""
    if t.n <= n:
        return t
    return t.take(range(n))


def check_pair(a: Tokens, b: Tokens, names: str, doing: str) -> None:
    """Refuse two inputs whose widths differ or whose batches do not broadcast.

    Raises:
        ValueError: names both numbers.
    """
    if a.width != b.width:
        raise ValueError(
            f"{doing} got {names} of different widths, {a.width} and {b.width}. Take both from "
            f"encoders of one width and with the same number of `layers`, or bring one to the "
            f"other's width: `load_connector`."
        )
    if a.batch != b.batch and 1 not in (a.batch, b.batch):
        raise ValueError(
            f"{doing} got {names} of different batch sizes, {a.batch} and {b.batch}. "
            f"Make them equal, or one of them 1."
        )


def _listed(alphas: Sequence[float], n: int) -> torch.Tensor:
    """One alpha for each of `n` tokens: ``[n]`` float32."""
    if len(alphas) != n:
        raise ValueError(
            f"`alpha` of `blend` is a list of {len(alphas)}, the result has {n} tokens. Give one "
            "for each token, or a single number for all."
        )
    return torch.tensor(list(alphas), dtype=torch.float32)


def _check(
    vl: Tokens,
    text: Tokens,
    alphas: tuple[float | Sequence[float], float],
    method: str,
    schedule: str,
) -> None:
    if method not in METHODS:
        raise ValueError(
            f"`method` of `blend` is {told(method)}, expected one of: {', '.join(METHODS)}."
        )
    if schedule not in SCHEDULES:
        raise ValueError(
            f"`schedule` of `blend` is {told(schedule)}, expected one of: {', '.join(SCHEDULES)}."
        )
    alpha, start = alphas
    shares = [alpha] if isinstance(alpha, int | float) else list(alpha)
    several = not isinstance(alpha, int | float)
    if several and (method == "concat" or schedule != "constant"):
        what = "method concat" if method == "concat" else f"schedule {schedule}"
        raise ValueError(
            f"`alpha` of `blend` is a list, which {what} does not read. Give a single number, or "
            "choose another."
        )
    for value in (*shares, start):
        if not 0 <= value <= 1:
            raise ValueError(
                f"`alpha` of `blend` is the picture's share and goes from 0 to 1, this is {value}."
            )
    check_pair(vl, text, "a picture and a text", "`blend`")


def _like(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return x.to(other.device, other.dtype)


def _concat(vl: Tokens, text: Tokens) -> Tokens:
    """vl's tokens, then the text's; if only one side has a map, the other's roles are unknown."""
    batch = max(vl.batch, text.batch)
    sides = (_like(vl.states, text.states), text.states)
    states = torch.cat([side.expand(batch, -1, -1) for side in sides], dim=1)
    beside = join_beside((t.beside, t.n) for t in (vl, text))
    if vl.token_map is None and text.token_map is None:
        return Tokens(states, None, beside)
    maps = (t.token_map or new_map(["unknown"] * t.n) for t in (vl, text))
    return Tokens(states, join(*maps), beside)


def _adain(text: torch.Tensor, vl: torch.Tensor, method: str) -> torch.Tensor:
    """The text with vl's mean and std (N - 1, floor 1e-6); both [B, n, D] float32."""
    if method == "adain_per_dim":
        centered, _, std = center(text, f"Method {method}", "choose method interpolate")
        _, mean, wanted = center(vl, f"Method {method}", "choose method interpolate")
    elif method == "adain_per_token":
        std, mean = torch.std_mean(text, dim=2, keepdim=True)
        centered = text - mean
        wanted, mean = torch.std_mean(vl, dim=2, keepdim=True)
    else:
        centered, std = text - text.mean(dim=(1, 2), keepdim=True), std_of_all(text)
        mean, wanted = vl.mean(dim=(1, 2), keepdim=True), std_of_all(vl)
    return centered * (wanted / std.clamp_min(STD_FLOOR)) + mean
