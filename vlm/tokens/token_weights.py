"""Weights on the tokens of an image: a mask brought to the token grid, and laid on the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from ..arguments import checked
from ..token_grid import need_grid
from .tokens import Tokens

if TYPE_CHECKING:
    from ..running.hidden_states import HiddenStates

# Tokens or HiddenStates: both have n, token_map and weigh.
T = TypeVar("T", "Tokens", "HiddenStates")

OVERSHOOT = 1e-3  # what resizing a mask may add to 0..1
MOST_PIXELS = 2**27  # of a mask: a minute of video at 320 x 320
THUMBNAIL = -1  # tile number of the small picture beside the tiles


@checked
def resample_mask(mask: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """Brings a mask of any size to a token grid: each token gets the mean of the area it covers.

    Args:
        mask: ``[H, W]`` or ``[B, H, W]``, 0..1.
        rows, cols: The token grid.

    Returns:
        ``[rows, cols]`` or ``[B, rows, cols]``, float32 on the CPU.

    Raises:
        ValueError: Another shape, an empty or sparse mask, NaN, values outside 0..1, no grid of a
            picture.
    """
    need_grid(rows, cols)
    values = mask_values(mask)
    down = area_shares(mask.shape[-2], rows)
    right = area_shares(mask.shape[-1], cols)
    return (down @ values.clamp(0, 1) @ right.T).clamp(0, 1).float()


def mask_values(mask: torch.Tensor) -> torch.Tensor:
    """What a mask holds, in its shape, float64 on the CPU.

    Args:
        mask: ``[H, W]`` or ``[B, H, W]``, 0..1, give or take an overshoot.

    Raises:
        ValueError: Another shape, an empty or sparse mask, one without data, NaN, values outside
            0..1.
    """
    if not isinstance(mask, torch.Tensor) or mask.ndim not in (2, 3) or 0 in mask.shape:
        given = list(mask.shape) if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise ValueError(f"A mask is [height, width] or [batch, height, width], this is {given}.")
    if mask.is_meta or mask.layout != torch.strided or mask.is_complex():
        kind = "has no data" if mask.is_meta else f"is {mask.dtype}, {mask.layout}"
        raise ValueError(f"A mask is a dense tensor of real numbers, this one {kind}. Make one.")
    if mask.numel() > MOST_PIXELS:
        raise ValueError(
            f"This mask is {list(mask.shape)}, at most {MOST_PIXELS} values are read. Shrink it."
        )
    values = mask.detach().cpu().double()
    if not torch.isfinite(values).all():
        raise ValueError("This mask holds NaN or Inf. Look at what made it.")
    low, high = values.min().item(), values.max().item()
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise ValueError(
            f"This mask goes from {low:.3g} to {high:.3g}, a mask is 0 to 1. Scale it to that."
        )
    return values


def area_shares(size: int, cells: int) -> torch.Tensor:
    """Which share of each of some equal cells the pixels cover.

    Args:
        size: Pixels (or tokens) in a line.
        cells: Cells over the same line, fewer or more.

    Returns:
        ``[cells, size]`` float64; rows sum to 1.
    """
    edges = torch.arange(cells + 1, dtype=torch.float64) * (size / cells)
    pixels = torch.arange(size, dtype=torch.float64)
    start = torch.maximum(edges[:-1, None], pixels[None])
    end = torch.minimum(edges[1:, None], pixels[None] + 1)
    return (end - start).clamp(min=0) * (cells / size)


def enlarge_mask(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Brings weights of a token grid to a picture's size: a pixel takes its token's weight.

    Args:
        mask: ``[rows, cols]`` or ``[F, rows, cols]``.
        height, width: The picture's, in pixels.

    Returns:
        ``[height, width]`` or ``[F, height, width]``, as the mask otherwise.
    """
    rows, cols = mask.shape[-2:]
    row = torch.arange(height) * rows // height
    col = torch.arange(width) * cols // width
    return mask[..., row[:, None], col[None]]


def image_grid(token_map: dict | None, image: int = 0) -> tuple[int, int, int]:
    """Frames, rows and columns of an image's tokens.

    Args:
        token_map: Of the tokens; None where it was lost.
        image: Image number from 0.

    Raises:
        ValueError: No token map, no image tokens, or an image that has none.
    """
    token_map = _need_map(token_map)
    pairs = zip(token_map["role"], token_map["image"], strict=True)
    there = sorted({number for role, number in pairs if role == "image"})
    if not there:
        raise ValueError(
            "`apply_mask` found no image tokens. Give `encode` a picture, or put `apply_mask` "
            "before `filter_tokens` takes image tokens out."
        )
    grids = {grid["image"]: grid for grid in token_map["grids"]}
    if image not in there or image not in grids:
        raise ValueError(
            f"Image {image} has no tokens here: there are images {', '.join(map(str, there))} "
            "(counted from 0). Choose one of them."
        )
    return grids[image]["frames"], grids[image]["rows"], grids[image]["cols"]


@checked
def apply_mask(t: T, mask: torch.Tensor, image: int = 0) -> T:
    """Multiplies the tokens of one image by weights; all other tokens stay as they are.

    Every frame of a video has the same grid and takes the same mask, unless there is a mask per
    frame. A thumbnail beside tiles takes the mask resampled to its own grid.

    Args:
        t: Tokens ``[B, N, D]`` with a token map, or hidden states: then every layer is weighed when
            it is asked for, the last after its final norm, and nothing is run or copied.
        mask: ``[rows, cols]`` of that image's grid, or ``[F, rows, cols]``, one per frame; 0..1.
        image: Image number from 0.

    Returns:
        Of the kind that came in; ``t`` itself where every weight is 1.

    Raises:
        ValueError: No token map, no such image, a mask of another size or number of frames, values
            outside 0..1, or tiles whose place is not known.
    """
    token_map = _need_map(t.token_map)
    frames, rows, cols = image_grid(token_map, image)
    shape = tuple(mask.shape)
    if shape[-2:] != (rows, cols) or len(shape) not in (2, 3):
        raise ValueError(
            f"This mask is {list(shape)}, the token grid of image {image} is {rows} x {cols}. "
            "Bring it to the grid with resample_mask."
        )
    if len(shape) == 3 and shape[0] not in (1, frames):
        raise ValueError(
            f"This mask is a batch of {shape[0]}, image {image} has {frames} frame(s). Connect "
            "one mask for all frames, or one per frame."
        )
    grid = resample_mask(mask, rows, cols).reshape(-1, rows, cols).expand(frames, rows, cols)
    weights = _per_token(token_map, grid, image)
    return t if bool((weights == 1).all()) else t.weigh(weights)


def _need_map(token_map: dict | None) -> dict:
    """The token map.

    Raises:
        ValueError: There is none.
    """
    if token_map is None:
        raise ValueError(
            "`apply_mask` needs to know which tokens are the picture's, and this conditioning "
            "carries no token map. Take it from `encode`; what changes the number of tokens, as "
            "ComfyUI's Conditioning (Concat) does, loses the map."
        )
    return token_map


def _per_token(token_map: dict, grid: torch.Tensor, image: int) -> torch.Tensor:
    """Weight of each token, [N]: 1 for those that are not this image's."""
    weights = torch.ones(token_map["n"])
    columns = (token_map[key] for key in ("role", "image", "tile", "frame", "row", "col"))
    places = {
        at: (tile, frame, row, col)
        for at, (role, number, tile, frame, row, col) in enumerate(zip(*columns, strict=True))
        if role == "image" and number == image
    }
    small = [(row, col) for tile, _, row, col in places.values() if tile == THUMBNAIL]
    _check_places(places, grid, image)
    if small:
        thumbnail = resample_mask(grid, *(1 + max(place) for place in zip(*small, strict=True)))
    for at, (tile, frame, row, col) in places.items():
        weights[at] = (thumbnail if tile == THUMBNAIL else grid)[frame, row, col]
    return weights


def _check_places(
    places: dict[int, tuple[int, int, int, int]], grid: torch.Tensor, image: int
) -> None:
    """Whether each token has one place of its own on the grid."""
    on_grid = [place[1:] for place in places.values() if place[0] != THUMBNAIL]
    frames, rows, cols = grid.shape
    fits = all(f < frames and row < rows and col < cols for f, row, col in on_grid)
    if len(set(on_grid)) != len(on_grid) or not fits:
        raise ValueError(
            f"`apply_mask` cannot place the tokens of image {image}: their rows and columns are "
            "not those of one grid over the whole picture. Encode the picture without tiles."
        )
