"""Pooling: tokens averaged over cells of equal area, so that each of them counts.

Two-point resampling of 576 picture tokens to 17 reads 34 of them; area means read all. Ours; area
pooling of a picture's tokens is what users of FLUX.1 Redux do to weaken it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch

from .parts import Part, as_stretch, parts_of, share_out
from .spread import SINK_FACTOR
from .token_weights import area_shares
from .tokens import Tokens


@dataclass(frozen=True)
class Pooling:
    """What becomes of every token of a sequence.

    Attributes:
        parts: In the order of the result.
    """

    parts: tuple[Part, ...]

    @property
    def firsts(self) -> list[int]:
        """For each token of the result the first one of those that it is made of."""
        at: list[int] = []
        for part in self.parts:
            at += part.at if part.bands is None else [min(part.at)] * part.cells
        return at

    def apply(self, states: torch.Tensor) -> torch.Tensor:
        """Pools tokens ``[B, N, D]``: ``[B, n, D]``, computed in float32, in their dtype."""
        pieces: list[torch.Tensor] = []
        groups: dict[tuple, list[tuple[int, torch.Tensor]]] = {}
        for number, part in enumerate(self.parts):
            own = states.index_select(1, torch.tensor(part.at, device=states.device))
            if part.bands is None:
                pieces.append(own)
                continue
            own = own.float()
            pieces.append(area_means(own, part.rows, part.cols, part.bands))
            # Frames of a video share a factor: a still stretch of it is not made louder.
            key = (part.image, part.thumbnail, number if part.image < 0 else -1)
            groups.setdefault(key, []).append((number, _norms(own)))
        for members in groups.values():
            before = torch.cat([norms for _, norms in members], dim=1)
            after = torch.cat([_norms(pieces[number]) for number, _ in members], dim=1)
            factor = norm_factor(before, after)[:, None, None]
            for number, _ in members:
                pieces[number] = pieces[number] * factor
        return torch.cat([piece.to(states.dtype) for piece in pieces], dim=1)


def pool_to(t: Tokens, n: int) -> torch.Tensor:
    """Pools all tokens to exactly ``n``, in float32; every one of them counts.

    Pictures are pooled over their grids; where n cells make no grid, the rows of the result hold
    different numbers of cells, all of the same area. Stretches of other tokens, and pictures whose
    tokens are not a whole grid, are pooled along the sequence. Each gets cells in proportion to its
    tokens, at least one; where there are more of them than cells, all are pooled as one stretch.
    Norms are restored as by ``pool_tokens``, for stretches too.

    Args:
        t: ``[B, N, D]``, with or without a map, at least ``n`` tokens.
        n: tokens of the result.

    Returns:
        ``[B, n, D]`` float32.

    Raises:
        ValueError: more cells than tokens.
    """
    if not 1 <= n <= t.n:
        raise ValueError(f"Pooling makes fewer tokens: {t.n} cannot become {n}.")
    parts = [as_stretch(part) for part in parts_of(t.token_map, t.n)]
    if len(parts) > n:
        parts = [Part(tuple(range(t.n)), 1, t.n)]
    cells = share_out(n, [len(part.at) for part in parts])
    made = [
        replace(part, bands=_bands(part.rows, part.cols, count))
        for part, count in zip(parts, cells, strict=True)
    ]
    return Pooling(tuple(made)).apply(t.states.float())


def area_means(x: torch.Tensor, rows: int, cols: int, bands: Sequence[int]) -> torch.Tensor:
    """Means over cells of equal area.

    Args:
        x: ``[B, rows · cols, D]`` float32, row by row.
        rows, cols: its grid.
        bands: number of cells in each row of the result; a row is as high as its cells are many.

    Returns:
        ``[B, sum(bands), D]``, in reading order.
    """
    grid = x.unflatten(1, (rows, cols))
    total, means = sum(bands), []
    # Whole numbers first: edges that fall between two rows are then exact.
    edges = [count * rows / total for count in (0, *accumulate(bands))]
    for count, top, bottom in zip(bands, edges[:-1], edges[1:], strict=True):
        first, last = math.floor(top), min(math.ceil(bottom), rows)
        line = torch.arange(first, last, dtype=torch.float64)
        height = (line + 1).clamp(max=bottom) - line.clamp(min=top)
        height = (height / height.sum()).to(x.device, x.dtype)
        band = torch.einsum("r,brcd->bcd", height, grid[:, first:last])
        means.append(area_shares(cols, count).to(x.device, x.dtype) @ band)
    return torch.cat(means, dim=1)


def norm_factor(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Factor that gives ordinary pooled tokens the median norm that ordinary tokens had.

    Args:
        before, after: Norms ``[B, N]`` and ``[B, n]``. Zeros (a mask took the token away) and sinks
            do not count.

    Returns:
        ``[B]``; 1 where nothing counts.
    """
    factors = []
    for had, have in zip(before, after, strict=True):
        had = had[had > 0]
        if not had.numel():
            factors.append(had.new_ones(()))
            continue
        wanted = had[had <= SINK_FACTOR * had.median()].median()
        ordinary = have[(have > 0) & (have <= SINK_FACTOR * wanted)]
        factors.append(wanted / ordinary.median() if ordinary.numel() else wanted.new_ones(()))
    return torch.stack(factors)


def _norms(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(x, dim=2)


def _bands(rows: int, cols: int, cells: int) -> tuple[int, ...]:
    """How many cells each row of the result holds: about square ones, never narrower than one."""
    lines = round(math.sqrt(cells * rows / cols))
    lines = min(max(lines, -(-cells // cols), 1), rows, cells)
    edges = [line * cells // lines for line in range(lines + 1)]
    return tuple(after - before for before, after in zip(edges[:-1], edges[1:], strict=True))
