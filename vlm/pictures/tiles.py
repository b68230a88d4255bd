"""Pictures as tiles and a thumbnail, as InternVL sees them.

A picture is stretched to the grid of square tiles whose shape is nearest to its own, and cut; where
that is more than one tile, the whole picture follows as one more, the thumbnail.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from .images import PixelRules, budget, resize, to_pictures
from .patches import Patches, to_tiles
from .picture_inputs import open_frames
from .preprocessor import Preprocessor, VisionInput, read_preprocessors
from .video import check_rates

TILE = 448
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# UniFusion trains with up to ten (section 4); the published files allow twelve.
MOST_TILES = 10
# Segments of a video on InternVL's model cards.
FRAMES = 8
# Tiles that the vision tower takes at once: the memory of a video stays bounded.
AT_ONCE = 12
# 200 megapixels of 448: more than a picture has. Grids are tried one by one.
_MOST_TRIED = 1000
THUMBNAIL = -1


def best_grid(height: int, width: int, tile: int, least: int, most: int) -> tuple[int, int]:
    """The grid of tiles whose shape is nearest to a picture's.

    Of grids of the same shape it is the largest of which the picture fills more than half.
    Source: `get_optimal_tiled_canvas` of transformers' GotOcr2 processor, which InternVL uses.

    Args:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        tile: Side of a tile, in pixels.
        least: Fewest tiles.
        most: Most tiles; over 1000 are 1000.

    Returns:
        Rows and columns of tiles.
    """
    most = min(most, _MOST_TRIED)
    grids = [
        (rows, cols)
        for cols in range(1, most + 1)
        for rows in range(1, most // cols + 1)
        if rows * cols >= least
    ]
    shape, area = width / height, width * height
    best, distance = (1, 1), math.inf
    for rows, cols in sorted(grids, key=math.prod):  # stable: few columns first
        off = abs(shape - cols / rows)
        if off < distance or (off == distance and area > 0.5 * tile * tile * rows * cols):
            best, distance = (rows, cols), off
    return best


@dataclass(frozen=True, eq=False)
class TiledInput(VisionInput):
    """A picture as tiles in reading order, then its thumbnail; or the frames of a video.

    `rows` and `cols` are those of the whole picture: all tiles side by side.

    Attributes:
        tile_rows: Rows of tiles.
        tile_cols: Columns of tiles.
    """

    tile_rows: int = 1
    tile_cols: int = 1

    def places(self, frame: int) -> Iterator[tuple[int, int, int]]:
        """Tile, row and column of each token; those of the thumbnail count on its own grid."""
        rows, cols = self.rows // self.tile_rows, self.cols // self.tile_cols
        tiles = self.tile_rows * self.tile_cols
        for tile in range(tiles):
            top, left = tile // self.tile_cols * rows, tile % self.tile_cols * cols
            for row in range(rows):
                yield from ((tile, top + row, left + col) for col in range(cols))
        if tiles > 1:
            yield from ((THUMBNAIL, row, col) for row in range(rows) for col in range(cols))

    @property
    def num_patches(self) -> int:
        """P, patches before the merge that the vision tower takes at once."""
        return min(len(self.pixels), AT_ONCE) * (self.pixels[0].shape[0] // self.rules.patch) ** 2

    def patches(self) -> Patches:
        """Tiles [T, 3, S, S] for the vision tower, which cuts them into patches itself."""
        side = len(self.pixels[0]) // self.rules.patch
        return to_tiles(self.pixels, (len(self.pixels), side, side), self.rules)


@dataclass(frozen=True)
class TilePreprocessor(Preprocessor):
    """Pictures in tiles of one size; each frame of a video is one tile.

    Attributes:
        rules: How tiles become patches; the pixel bounds are areas of whole tiles.
        size: Side of a tile in pixels.
        frames: Frames of a video that the model sees where no rate is asked for.
        fps: Frames per second that it sees instead; None = `frames`.
    """

    rules: PixelRules
    size: int = TILE
    frames: int = FRAMES
    fps: float | None = None

    def prepare_images(
        self, images: Any, min_pixels: int | None, max_pixels: int | None
    ) -> list[VisionInput]:
        """Cuts the pictures of a prompt into tiles; see `Look.see_images`.

        The bounds are of the tiles' area, so of their number: at least one, whatever the bounds. A
        picture whose bound is below one tile is brought to that many pixels, a square, before it
        is enlarged to the tile: X2I does so with 128 x 128.
        """
        seen: list[VisionInput] = []
        for picture in to_pictures(images):
            least, most = budget(self.rules, min_pixels, max_pixels)
            most_tiles = max(1, most // self.size**2)
            least_tiles = min(max(1, math.ceil(least / self.size**2)), most_tiles)
            size = picture.height, picture.width
            rows, cols = best_grid(*size, self.size, least_tiles, most_tiles)
            small = self._shrink(picture, most)
            tiles = self._cut(small, rows, cols)
            if len(tiles) > 1:
                tiles.append(self._resize(small))
            seen.append(self._visual(tiles, rows=rows, cols=cols))
        return seen

    def prepare_video(
        self,
        video: Any,
        fps: float,
        sample_fps: float | None,
        min_pixels: int | None,
        max_pixels: int | None,
    ) -> VisionInput:
        """Samples the frames of a video, each of which is one tile; see `Look.see_video`."""
        n, pick = open_frames(video)
        _, most = budget(self.rules, min_pixels, max_pixels)
        indices = self.sample_frames(n, fps, sample_fps)
        tiles = [self._resize(self._shrink(frame, most)) for frame in pick(indices)]
        return self._visual(
            tiles,
            frames=len(tiles),
            is_video=True,
            seconds=tuple(index / fps for index in indices),
            seconds_per_grid=n / fps / len(tiles),
        )

    def sample_frames(self, n: int, fps: float, sample_fps: float | None = None) -> list[int]:
        """Which frames of a video the model sees: the middles of segments of one length.

        Source: `sample_frames` of transformers' InternVL video processor.

        Args:
            n: Number of frames.
            fps: Frames per second of the video.
            sample_fps: Frames per second that the model sees; None = the model's.

        Returns:
            Frame indices from 0, ascending; at least one, and none twice.

        Raises:
            ValueError: No frames, or a rate that is not positive.
        """
        wanted = self.fps if sample_fps is None else sample_fps
        check_rates(n, fps, 1.0 if wanted is None else wanted)
        count = self.frames if wanted is None else int(n / fps * wanted)
        step = n / min(max(count, 1), n)
        return torch.arange(step / 2, n, step).int().tolist()

    def _shrink(self, picture: Image.Image, most: int) -> Image.Image:
        """A picture with as few pixels as a bound below one tile asks for."""
        if most >= self.size**2:
            return picture
        side = max(1, math.isqrt(most))
        return picture.resize((side, side), Image.Resampling.BICUBIC)

    def _resize(self, picture: Image.Image) -> np.ndarray:
        return resize(picture, self.size, self.size)

    def _cut(self, picture: Image.Image, rows: int, cols: int) -> list[np.ndarray]:
        whole = resize(picture, rows * self.size, cols * self.size)
        tiles = rearrange(whole, "(r h) (c w) d -> (r c) h w d", r=rows, c=cols)
        return list(tiles)

    def _visual(
        self, tiles: list[np.ndarray], rows: int = 1, cols: int = 1, frames: int = 1, **video: Any
    ) -> TiledInput:
        """Tiles as they stand in the prompt."""
        side = self.size // (self.rules.patch * self.rules.merge)
        return TiledInput(
            tuple(tiles),
            self.rules,
            frames,
            rows * side,
            cols * side,
            tile_rows=rows,
            tile_cols=cols,
            **video,
        )


def read_tile_preprocessor(folder: Path, config: dict) -> TilePreprocessor:
    """Reads a model folder's preprocessor files.

    Args:
        folder: In Hugging Face layout. A missing file means the published values.
        config: Its config.json.

    Raises:
        ValueError: A file that is not JSON, tiles that are not square, or of another size than
            the vision tower of config.json takes.
    """
    image, video = read_preprocessors(folder)
    vision = config.get("vision_config") or {}
    takes, patch = (_side(vision.get(key), default) for key, default in
                    (("image_size", TILE), ("patch_size", 14)))  # fmt: skip
    size = _side(image.get("size"), takes)
    if size != takes:
        raise ValueError(
            f"The model folder contradicts itself: tiles are {size} pixels wide in the "
            f"preprocessor file, and the vision tower of config.json takes {takes}. Both files "
            "must come from the same model."
        )
    merge = round(1 / config.get("downsample_ratio", 0.5))
    most = min(image.get("max_patches") or MOST_TILES, MOST_TILES)
    least = min(image.get("min_patches") or 1, most)
    mean, std = (tuple(image.get(key) or default) for key, default in
                 (("image_mean", MEAN), ("image_std", STD)))  # fmt: skip
    rules = PixelRules(patch, merge, 1, mean, std, least * size**2, most * size**2)
    return TilePreprocessor(rules, size, video.get("num_frames") or FRAMES, video.get("fps"))


def _side(size: Any, default: int) -> int:
    """A side from the forms that files have it in: 448, [448, 448] or height and width."""
    if size is None:
        return default
    listed = size if isinstance(size, list) else [size]
    sides = set(size.values() if isinstance(size, dict) else listed)
    if len(sides) != 1 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(
            f"The model folder asks for tiles of {size}; square ones were expected, as 448 x 448. "
            "Download config.json and preprocessor_config.json again."
        )
    return sides.pop()
