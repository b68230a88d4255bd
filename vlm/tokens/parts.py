"""Parts of a sequence: its pictures by frame and thumbnail, and the stretches between them."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .token_weights import THUMBNAIL


@dataclass(frozen=True)
class Part:
    """Tokens that share a grid: a picture in one frame, its thumbnail, or a stretch without one.

    Attributes:
        at: Places in the sequence from 0, in reading order of the grid.
        rows, cols: The grid; a stretch is one row.
        image, frame, thumbnail: Whose tokens they are; image -1 for a stretch.
        whole: Whether each cell of the grid holds exactly one token.
        bands: Cells of each row of the pooled grid; None = the tokens stay as they are.
    """

    at: tuple[int, ...]
    rows: int
    cols: int
    image: int = -1
    frame: int = 0
    thumbnail: bool = False
    whole: bool = True
    bands: tuple[int, ...] | None = None

    @property
    def cells(self) -> int:
        """Tokens it becomes."""
        return len(self.at) if self.bands is None else sum(self.bands)


def parts_of(token_map: dict | None, n: int) -> list[Part]:
    """Pictures by frame and thumbnail, and stretches of other tokens, by their first token."""
    if token_map is None:
        return [Part(tuple(range(n)), 1, n)]
    found: dict[tuple, list[int]] = {}
    stretch, before = 0, False
    for at, key in enumerate(_keys(token_map)):
        if key is None:
            stretch += before
            key = (-1, stretch, False)
        before = key[0] >= 0
        found.setdefault(key, []).append(at)
    return [_part(token_map, key, at) for key, at in found.items()]


def _keys(token_map: dict) -> Iterator[tuple[int, int, bool] | None]:
    columns = (token_map[key] for key in ("role", "image", "frame", "tile"))
    for role, image, frame, tile in zip(*columns, strict=True):
        yield (image, frame, tile == THUMBNAIL) if role == "image" else None


def _part(token_map: dict, key: tuple[int, int, bool], at: list[int]) -> Part:
    image, frame, thumbnail = key
    if image < 0:
        return Part(tuple(at), 1, len(at))
    row, col = token_map["row"], token_map["col"]
    placed = sorted(at, key=lambda i: (row[i], col[i]))
    top, left = row[placed[0]], min(col[i] for i in at)
    rows, cols = row[placed[-1]] - top + 1, max(col[i] for i in at) - left + 1
    places = [(row[i] - top) * cols + col[i] - left for i in placed]
    whole = places == list(range(rows * cols))
    return Part(tuple(placed), rows, cols, image, frame, thumbnail, whole)


def as_stretch(part: Part) -> Part:
    """A picture without a whole grid as a stretch of the sequence."""
    if part.whole:
        return part
    return replace(part, at=tuple(sorted(part.at)), rows=1, cols=len(part.at), whole=True)


def share_out(total: int, sizes: Sequence[int], least: Sequence[int] | None = None) -> list[int]:
    """Shares a number in proportion to sizes, none under its least (1) or over its size.

    Highest averages (Sainte-Laguë): the next one goes where size / (2 · share + 1) is largest.
    """
    shares = list(least or [1] * len(sizes))
    waiting = [
        (-size / (2 * have + 1), i)
        for i, (size, have) in enumerate(zip(sizes, shares, strict=True))
    ]
    heapq.heapify(waiting)
    left = total - sum(shares)
    while left > 0 and waiting:
        _, i = heapq.heappop(waiting)
        if shares[i] < sizes[i]:
            shares[i] += 1
            left -= 1
            heapq.heappush(waiting, (-sizes[i] / (2 * shares[i] + 1), i))
    return shares
