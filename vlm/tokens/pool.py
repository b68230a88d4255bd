"""Token pool: each picture on a smaller grid."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ..arguments import checked
from ..quoted import told
from ..token_map import new_map
from .parts import Part, parts_of, share_out
from .pooling import Pooling
from .token_weights import THUMBNAIL

if TYPE_CHECKING:
    from ..running.hidden_states import HiddenStates
    from .tokens import Tokens


T = TypeVar("T", "Tokens", "HiddenStates")


@checked
def pool_tokens(
    t: T, tokens: int | None = None, rows: int | None = None, cols: int | None = None
) -> T:
    """Averages the tokens of each picture over the cells of a smaller grid; others stay.

    A cell is the mean over the area it covers, tokens at its edge counted by the part that lies in
    it, so that each of the picture's tokens counts the same. Every frame of a video is pooled by
    itself, and so is a thumbnail beside tiles. The cells take the place of the first token of their
    picture (frame, thumbnail), in reading order. Averages are shorter than what they average: each
    picture is scaled so that the median norm of its ordinary tokens (neither zero nor sinks, see
    ``spread.sink_tokens``) is what it was.

    Args:
        t: Tokens ``[B, N, D]`` with a token map, or hidden states: then every layer is pooled when
            it is asked for, with norms restored per layer, and nothing is run.
        tokens: at most so many picture tokens altogether, shared by the pictures in proportion to
            their tokens; each picture's grid keeps its shape as far as whole numbers do. ``t``
            itself where there are no more.
        rows, cols: instead of ``tokens``, the grid of each picture (each frame, each thumbnail that
            is larger).

    Returns:
        Of the kind that came in, with a map that holds the new grids.

    Raises:
        ValueError: no token map, no picture, a size that is no whole number above 0 or larger than
            a grid, fewer tokens than pictures and frames, or a picture of which tokens are missing.
    """
    asked = _asked_size(tokens, rows, cols)
    token_map = _need_map(t.token_map)
    parts = _parts_of_pictures(token_map)
    pictures = [part for part in parts if part.image >= 0]
    if isinstance(asked, int):
        if sum(len(part.at) for part in pictures) <= asked:
            return t
        sizes = _shared_grids(pictures, asked)
    else:
        sizes = [_asked_grid(part, *asked) for part in pictures]
    if all(size == (part.rows, part.cols) for part, size in zip(pictures, sizes, strict=True)):
        return t
    grid = iter(sizes)
    made = tuple(part if part.image < 0 else _on_grid(part, next(grid)) for part in parts)
    pooling = Pooling(made)
    return t.pool(pooling.apply, _pooled_map(token_map, made), pooling.firsts)


def _need_map(token_map: dict | None) -> dict:
    if token_map is None:
        raise ValueError(
            "`pool_tokens` needs to know which tokens are the picture's, and this conditioning "
            "carries no token map. Take it from `encode`; what changes the number of tokens, as "
            "ComfyUI's Conditioning (Concat) does, loses the map."
        )
    return token_map


def _parts_of_pictures(token_map: dict) -> list[Part]:
    parts = parts_of(token_map, token_map["n"])
    if all(part.image < 0 for part in parts):
        raise ValueError(
            "`pool_tokens` found no image tokens. Give `encode` a picture, or put `pool_tokens` "
            "before `filter_tokens` takes image tokens out."
        )
    for part in parts:
        if not part.whole:
            raise ValueError(
                f"`pool_tokens` cannot place the tokens of image {part.image}: their rows and "
                f"columns do not make one whole grid of {part.rows} x {part.cols}. Put "
                "`pool_tokens` before what took some of them out."
            )
    return parts


def _asked_size(tokens: int | None, rows: int | None, cols: int | None) -> int | tuple[int, int]:
    """What is asked for: so many tokens altogether, or the grid of each picture."""
    asked: int | tuple[int, int]
    if tokens is not None and rows is None and cols is None:
        asked = tokens
    elif tokens is None and rows is not None and cols is not None:
        asked = rows, cols
    else:
        raise ValueError(
            "`pool_tokens` takes either tokens (at most so many of all pictures) or rows and cols "
            "(the grid of each picture). Set one of the two."
        )
    for name, value in (("tokens", tokens), ("rows", rows), ("cols", cols)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            raise ValueError(
                f"`{name}` is a whole number from 1, this is {told(value)}. Set it to the "
                f"size that each picture should become."
            )
    return asked


def _shared_grids(pictures: list[Part], tokens: int) -> list[tuple[int, int]]:
    """A grid for each part, together at most ``tokens``; frames of a video get the same."""
    groups: dict[tuple[int, bool], list[Part]] = {}
    for part in pictures:
        groups.setdefault((part.image, part.thumbnail), []).append(part)
    frames = [len(parts) for parts in groups.values()]
    if tokens < sum(frames):
        raise ValueError(
            f"`pool_tokens` cannot make {tokens} tokens of {sum(frames)} pictures (frames and "
            f"thumbnails counted one by one): each keeps at least one. Ask for {sum(frames)} "
            f"or more, or take fewer frames."
        )
    sizes = [sum(len(part.at) for part in parts) for parts in groups.values()]
    shares = share_out(tokens, sizes, frames)
    each = {
        key: share // len(parts) for (key, parts), share in zip(groups.items(), shares, strict=True)
    }
    return [
        fitting_grid(part.rows, part.cols, each[part.image, part.thumbnail]) for part in pictures
    ]


def fitting_grid(rows: int, cols: int, cells: int) -> tuple[int, int]:
    """The grid of at most ``cells`` cells that is nearest to that number and to rows : cols.

    Both distances are those of logarithms, added up; of two equal ones the larger grid wins.

    Args:
        rows, cols: the grid to shrink; neither grows.
        cells: at least 1.
    """

    def distance(size: tuple[int, int]) -> tuple[float, int]:
        shape = abs(math.log(size[0] * cols / (size[1] * rows)))
        return round(shape + math.log(cells / (size[0] * size[1])), 9), -size[0] * size[1]

    heights = range(1, min(rows, cells) + 1)
    return min(((r, min(cols, cells // r)) for r in heights), key=distance)


def _asked_grid(part: Part, rows: int, cols: int) -> tuple[int, int]:
    if part.thumbnail:
        return min(rows, part.rows), min(cols, part.cols)
    if rows > part.rows or cols > part.cols:
        raise ValueError(
            f"`pool_tokens` makes grids smaller: image {part.image} has {part.rows} x {part.cols} "
            f"tokens, {rows} x {cols} were asked for. Set rows to at most {part.rows} and cols to "
            f"at most {part.cols}, or name a number of tokens instead."
        )
    return rows, cols


def _on_grid(part: Part, size: tuple[int, int]) -> Part:
    if size == (part.rows, part.cols):
        return part
    return replace(part, bands=(size[1],) * size[0])


def _pooled_map(token_map: dict, parts: Sequence[Part]) -> dict:
    """The map of the result; each picture's grid is that of its first part that is no thumbnail."""
    columns: dict[str, list] = {key: [] for key in ("role", "image", "frame", "tile", "row", "col")}
    grids = {grid["image"]: dict(grid) for grid in token_map["grids"]}
    for part in parts:
        if part.bands is None:
            for key, column in columns.items():
                column += [token_map[key][at] for at in part.at]
            continue
        rows, cols, count = len(part.bands), part.bands[0], part.cells
        columns["role"] += ["image"] * count
        columns["image"] += [part.image] * count
        columns["frame"] += [part.frame] * count
        columns["tile"] += [THUMBNAIL if part.thumbnail else 0] * count
        columns["row"] += [at // cols for at in range(count)]
        columns["col"] += [at % cols for at in range(count)]
        if not part.thumbnail and part.image in grids:
            grids[part.image] |= {"rows": rows, "cols": cols}
    role, image, frame, tile, row, col = columns.values()
    return new_map(role, image, frame, tile, row, col, grids.values())
