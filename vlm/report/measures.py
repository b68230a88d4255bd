"""Numbers of a report: norms and sinks of tokens, layers beside one another, shares of pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..running.hidden_states import HiddenStates
from ..token_map import count_roles
from ..tokens.spread import STD_FLOOR, sink_tokens
from ..tokens.stats import Stats

PERCENTILES = (0.1, 0.5, 0.9)
NO_WORDS = ("image", "vision_marker", "audio", "audio_marker", "pad")


@dataclass(frozen=True)
class LayerCurves:
    """Layers side by side, of the tokens that the target sees.

    Attributes:
        layers: Indices of the layers held, ascending.
        norms: Per kind (`image`, `text`) the 10th, 50th and 90th percentile of its tokens' norms,
            [layers, 3] float32; a kind without tokens is left out.
        likeness: Per kind the same percentiles of each token's cosine between a layer held and the
            one held before it, [layers - 1, 3] float32.
    """

    layers: tuple[int, ...]
    norms: dict[str, torch.Tensor]
    likeness: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Share:
    """What one picture, or everything that is no picture, has of a sequence.

    Attributes:
        image: Image number from 0; -1 = everything else.
        tokens: Its tokens that are no sinks.
        of_tokens: Their share of all such tokens, 0..1.
        of_norms: Their share of the sum of all such tokens' norms, 0..1.
    """

    image: int
    tokens: int
    of_tokens: float
    of_norms: float


def picture_grid(token_map: dict, image: int = 0, frame: int = 0) -> torch.Tensor:
    """Where the tokens of a picture stand in the sequence: int64 [rows, columns], origin 0.

    Cells whose token was filtered out are -1; a thumbnail beside tiles is not in it.

    Args:
        token_map: Of the sequence.
        image: Image number from 0.
        frame: Of a video, the frame from 0.

    Raises:
        ValueError: There is no such picture.
    """
    sizes = {grid["image"]: (grid["rows"], grid["cols"]) for grid in token_map["grids"]}
    if image not in sizes:
        have = ", ".join(map(str, sorted(sizes))) or "none"
        raise ValueError(
            f"The report is about image {image}, and the prompt has these: {have}. "
            "Encode with at least one picture, or name another image number."
        )
    grid = torch.full(sizes[image], -1)
    columns = (token_map[key] for key in ("role", "image", "frame", "tile", "row", "col"))
    for at, (role, number, when, tile, row, col) in enumerate(zip(*columns, strict=True)):
        if role == "image" and number == image and when == frame and tile >= 0:
            grid[row, col] = at
    return grid


def text_similarity(states: torch.Tensor, roles: list[str]) -> torch.Tensor:
    """Cosine similarity of every token with the mean typed token.

    The mean of all tokens is taken off first: what all tokens share makes every cosine near 1.
    Silenced tokens (all zero) have nothing to do with any word and no part in that mean.

    Args:
        states: [N, D] float32.
        roles: Of the N tokens; without typed ones all text around the pictures stands in.

    Returns:
        [N] in -1..1; all 0 where there is no text, 0 for silenced tokens.
    """
    picked = [role == "text" for role in roles]
    if not any(picked):
        picked = [role not in NO_WORDS for role in roles]
    if not any(picked):
        return torch.zeros(len(states))
    heard = states.abs().amax(dim=1) > 0
    if not bool(heard.any()):
        return torch.zeros(len(states))
    centred = (states - states[heard].mean(dim=0)) * heard[:, None]
    words = centred[torch.tensor(picked)].mean(dim=0)
    return F.cosine_similarity(centred, words[None], dim=1)


def kinds_of(roles: list[str]) -> dict[str, torch.Tensor]:
    """Which tokens are a picture's and which are words, bool [N]; a kind without any is left out.

    Tokens of an unknown role count as words; pad tokens and markers around pictures are neither.
    """
    masks = {
        "image": torch.tensor([role == "image" for role in roles]),
        "text": torch.tensor([role not in NO_WORDS for role in roles]),
    }
    return {kind: mask for kind, mask in masks.items() if bool(mask.any())}


def layer_curves(states: HiddenStates) -> LayerCurves:
    """Norms and likeness of the layers held, before the final norm; nothing is run.

    Two layers are in memory at a time. Tokens that a mask set to zero do not count.

    Args:
        states: Hidden states that hold at least one layer.
    """
    if states.dropped:
        states = states.take(range(states.dropped, states.n))
    kinds = kinds_of(states.token_map["role"])
    norms: dict[str, list[torch.Tensor]] = {kind: [] for kind in kinds}
    likeness: dict[str, list[torch.Tensor]] = {kind: [] for kind in kinds}
    before = None
    for held in states.held:
        here = states.layer(held, final_norm=False)[0].float().cpu()
        sizes = here.norm(dim=1)
        cosines = None if before is None else F.cosine_similarity(before, here, dim=1)
        for kind, mask in kinds.items():
            counted = mask & (sizes > 0)
            norms[kind].append(_percentiles(sizes[counted]))
            if cosines is not None:
                likeness[kind].append(_percentiles(cosines[counted]))
        before = here
    return LayerCurves(states.held, _stacked(norms), _stacked(likeness))


def _percentiles(values: torch.Tensor) -> torch.Tensor:
    if not len(values):
        return torch.zeros(len(PERCENTILES))
    return values.quantile(torch.tensor(PERCENTILES))


def _stacked(rows: dict[str, list[torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {kind: torch.stack(row) for kind, row in rows.items() if row}


def find_sinks(states: torch.Tensor) -> torch.Tensor:
    """Sink tokens of [N, D] float32 (see `spread.sink_tokens`), bool [N]; pad tokens count too."""
    return sink_tokens(states[None])[0]


def shares(norms: torch.Tensor, sinks: torch.Tensor, token_map: dict) -> list[Share]:
    """What each picture has of a sequence, then everything else.

    Args:
        norms: [N] float32.
        sinks: [N] bool; these do not count, since one of them can outweigh everything.
        token_map: Of the N tokens.
    """
    numbers = torch.tensor(
        [
            image if role == "image" else -1
            for role, image in zip(token_map["role"], token_map["image"], strict=True)
        ]
    )
    counted = ~sinks & torch.tensor([role != "pad" for role in token_map["role"]])
    total, sum_of_norms = int(counted.sum()), float(norms[counted].sum())
    found = []
    for image in [*sorted(set(numbers[numbers >= 0].tolist())), -1]:
        own = counted & (numbers == image)
        count = int(own.sum())
        if count:
            norm = float(norms[own].sum()) / sum_of_norms if sum_of_norms > 0 else 0.0
            found.append(Share(image, count, count / total, norm))
    return found


def off_by(values: torch.Tensor, want: torch.Tensor) -> tuple[float, float, int]:
    """How far the std of dimensions is from a reference's, as factors from 1 = equal.

    Args:
        values, want: [D] std; dimensions that are constant in the reference do not count.

    Returns:
        The median of max(a / b, b / a), the largest, and the dimension that has it.
    """
    varied = want > STD_FLOOR
    if not bool(varied.any()):
        return 1.0, 1.0, 0
    a, b = values.clamp_min(STD_FLOOR), want.clamp_min(STD_FLOOR)
    factors = torch.maximum(a / b, b / a)
    worst = int(torch.where(varied, factors, torch.zeros(())).argmax())
    return float(factors[varied].median()), float(factors[worst]), worst


def reference_of(stats: Stats) -> dict[str, torch.Tensor]:
    """Mean and std [D] of the reference's ordinary tokens, by their names."""
    mean, std = stats.ordinary()
    return {"mean": mean, "std": std}


def count_of(tokens: int, kind: str = "") -> str:
    """`1 token`, `3 tokens`, `2 sink tokens`."""
    return f"{tokens} {f'{kind} ' if kind else ''}token{'s' * (tokens != 1)}"


def short(value: float) -> str:
    """A number in three digits, without an exponent as far as people read numbers: `2790`."""
    if 1000 <= abs(value) < 1e7:
        return f"{float(f'{value:.3g}'):.0f}"
    return f"{value:.3g}"


def counted_roles(token_map: dict | None, n: int) -> dict[str, int]:
    """Tokens by role; all unknown where there is no map."""
    return {"unknown": n} if token_map is None else count_roles(token_map)
