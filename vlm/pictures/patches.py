"""Pictures as the vision tower takes them: 8-bit levels, normalised where the tower runs.

Equal, value for value, to the families' PIL-based Hugging Face processors; see `images`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange

from .images import PixelRules


@dataclass(frozen=True)
class Patches:
    """A picture or video as the vision tower takes it.

    Attributes:
        stored: Patches `[P, C * temporal * patch * patch]`, where merge x merge neighbours are
            adjacent, or tiles `[T, C, S, S]`: uint8 levels, or float32 that is normalised already.
        levels: What each level of each channel becomes, float32 `[C, 256]`; None = nothing else.
        grid: patches in time, height and width, before the merge; what else the tower needs to know
            of a picture of this kind follows.
        merge: patches per side that become one token.
    """

    stored: torch.Tensor
    levels: torch.Tensor | None
    grid: tuple[int, ...]
    merge: int = 2

    @property
    def frames(self) -> int:
        """Temporal patches: 1 for a still picture."""
        return self.grid[0]

    @property
    def rows(self) -> int:
        """Rows of tokens, after the merge."""
        return self.grid[1] // self.merge

    @property
    def cols(self) -> int:
        """Columns of tokens, after the merge."""
        return self.grid[2] // self.merge

    @property
    def pixels(self) -> torch.Tensor:
        """Normalised float32 on the CPU, as transformers' processors give them."""
        return self.normalised(torch.device("cpu"), torch.float32)

    def normalised(self, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Normalised on a device: a byte a value goes there, and is looked up.

        The same bits on every device, as the table is computed on the CPU, and those of normalising
        in float32 and rounding once.

        Args:
            device: Where the tower runs.
            dtype: What it takes.

        Returns:
            Of the shape of `stored`.
        """
        stored = self.stored.to(device)
        if self.levels is None:
            return stored.to(dtype)
        levels = self.levels.to(dtype).to(device)
        stored = stored.view(len(stored), len(levels), -1)
        values = torch.empty_like(stored, dtype=dtype)
        for channel, known in enumerate(levels):  # one at a time: the index is four bytes a value
            index = stored[:, channel].int()
            values[:, channel] = known.index_select(0, index.flatten()).view(index.shape)
        return values.view(self.stored.shape)


def to_patches(frames: Sequence[np.ndarray], rules: PixelRules) -> Patches:
    """Cuts frames into patches.

    Args:
        frames: `[H, W, 3]` uint8 each, all of one size that is a multiple of patch x merge. The
            last one is repeated until the temporal patch is full.
        rules: the family's rules.

    Returns:
        Patches; four (merge x merge) that become one token lie next to each other.
    """
    missing = -len(frames) % rules.temporal
    frames = [*frames, *[frames[-1]] * missing]
    p, m = rules.patch, rules.merge
    height, width = frames[0].shape[:2]
    grid = (len(frames) // rules.temporal, height // p, width // p)
    out = np.empty((len(frames), math.prod(grid[1:]), 3, p, p), dtype=np.uint8)
    for i, frame in enumerate(frames):
        if i and frame is frames[i - 1]:
            out[i] = out[i - 1]
            continue
        out[i] = rearrange(
            frame, "(h m p) (w n q) c -> (h w m n) c p q", m=m, p=p, n=m, q=p
        )  # fmt: skip
    stored = rearrange(out, "(g t) n c p q -> (g n) (c t p q)", t=rules.temporal)
    return Patches(torch.from_numpy(np.ascontiguousarray(stored)), _levels(rules), grid, m)


def to_tiles(pixels: Sequence[np.ndarray], grid: tuple[int, ...], rules: PixelRules) -> Patches:
    """Pictures of one size for a tower that cuts them into patches itself.

    Args:
        pixels: `[S, S, 3]` uint8 each.
        grid: What the tower needs to know; see `Patches.grid`.
        rules: the family's rules.

    Returns:
        Tiles `[T, 3, S, S]`.
    """
    tiles = np.stack([picture.transpose(2, 0, 1) for picture in pixels])
    return Patches(torch.from_numpy(tiles), _levels(rules), grid, rules.merge)


def _levels(rules: PixelRules) -> torch.Tensor:
    """What each of the 256 levels of a channel becomes, in the reference's order of rounding."""
    levels = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    mean, std = (np.array(v, dtype=np.float32)[:, None] for v in (rules.mean, rules.std))
    return torch.from_numpy((levels - mean) / std)
