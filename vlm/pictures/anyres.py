"""Pictures as LLaVA-OneVision sees them: a thumbnail, then the picture in rows on padded tiles.

One picture keeps its shape: it is laid in the middle of the grid of tiles that shows most of it,
and the tokens of the margin are left out again. Several pictures are one tile each, padded into a
square. Source: `LlavaOnevisionImageProcessor` of transformers and `pack_image_features`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange
from PIL import Image

from ..quoted import told
from .images import PixelRules, budget, check_ratio, to_pictures
from .patches import Patches, to_tiles
from .preprocessor import Preprocessor, VisionInput, read_preprocessors

THUMBNAIL = -1
# Tiles that the vision tower takes at once.
AT_ONCE = 12
TILE, PATCH = 384, 14
# The published files allow up to 6 x 6 tiles of 384 pixels, and tokens for 9 of them.
SIDES = range(1, 7)
MOST = "anyres_max_9"
# A side of tokens so many times longer than allowed is resampled (`pack_image_features`).
SLACK = 1.1


class AnyresGrid(NamedTuple):
    """How a picture's features come out of the tower, and what becomes of them.

    Attributes:
        tiles: T, the thumbnail included.
        rows: Patch rows of one tile.
        cols: Patch columns of one tile.
        tile_rows: Rows of tiles; 0 = the picture is a single tile without a thumbnail.
        tile_cols: Columns of tiles.
        kept_rows: Patch rows that show the picture, in the middle of those of all tiles.
        kept_cols: Patch columns that do.
        out_rows: Rows that these are resampled to.
        out_cols: Columns likewise.
    """

    tiles: int
    rows: int
    cols: int
    tile_rows: int = 0
    tile_cols: int = 0
    kept_rows: int = 0
    kept_cols: int = 0
    out_rows: int = 0
    out_cols: int = 0


def best_resolution(height: int, width: int, sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The size of which a picture fills most pixels, and among those wastes fewest.

    Source: `select_best_resolution` of transformers.

    Args:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        sizes: Heights and widths to choose from.
    """
    best, most, least_waste = sizes[0], 0, math.inf
    for tall, wide in sizes:
        scale = min(wide / width, tall / height)
        used = min(int(width * scale) * int(height * scale), height * width)
        waste = tall * wide - used
        if used > most or (used == most and waste < least_waste):
            best, most, least_waste = (tall, wide), used, waste
    return best


def kept(height: int, width: int, rows: int, cols: int) -> tuple[int, int]:
    """Rows and columns of a grid that show a picture laid in its middle, margin left out.

    Source: `unpad_image` of transformers.
    """
    if width / height > cols / rows:
        margin = (rows - int(round(height * (cols / width), 7))) // 2
        return rows - 2 * margin, cols
    margin = (cols - int(round(width * (rows / height), 7))) // 2
    return rows, cols - 2 * margin


def thinned(rows: int, cols: int, most: int) -> tuple[int, int]:
    """Rows and columns of a grid with not much more than `most` tokens; see `SLACK`."""
    ratio = math.sqrt(rows * cols / most)
    return (int(rows // ratio), int(cols // ratio)) if ratio > SLACK else (rows, cols)


@dataclass(frozen=True, eq=False)
class AnyresInput(VisionInput):
    """A picture's thumbnail and tiles, or one tile.

    `rows` and `cols` are those of its tokens, without the thumbnail's.

    Attributes:
        shape: Of its features.
        size: Height and width of the picture as it came, in pixels.
    """

    shape: AnyresGrid = AnyresGrid(1, 1, 1)
    size: tuple[int, int] = (1, 1)

    @property
    def is_tiled(self) -> bool:
        """Whether it is a thumbnail and tiles."""
        return self.shape.tile_rows > 0

    def places(self, frame: int) -> Iterator[tuple[int, int, int]]:
        """Tile, row and column of each token; those of the thumbnail count on its own grid.

        A token's tile is the one in which its middle lies.
        """
        shape = self.shape
        if self.is_tiled:
            yield from ((THUMBNAIL, r, c) for r in range(shape.rows) for c in range(shape.cols))
        tile_row = self._tiles(self.rows, shape.kept_rows, shape.tile_rows, shape.rows)
        tile_col = self._tiles(self.cols, shape.kept_cols, shape.tile_cols, shape.cols)
        for row in range(self.rows):
            for col in range(self.cols):
                yield tile_row[row] * shape.tile_cols + tile_col[col], row, col

    def _tiles(self, count: int, shown: int, tiles: int, side: int) -> list[int]:
        """The row (or column) of tiles of each row (or column) of tokens."""
        if not self.is_tiled:
            return [0] * count
        margin = (tiles * side - shown) // 2
        return [int(margin + (at + 0.5) * shown / count) // side for at in range(count)]

    @property
    def num_patches(self) -> int:
        """P, patches that the vision tower takes at once."""
        return min(self.shape.tiles, AT_ONCE) * self.shape.rows * self.shape.cols

    def patches(self) -> Patches:
        """Tiles [T, 3, S, S] for the vision tower, which cuts them into patches itself."""
        return to_tiles(self.pixels, self.shape, self.rules)

    def digest(self) -> bytes:
        """Of what the vision tower sees, and of which part of the tiles is the picture."""
        return hashlib.sha256(super().digest() + repr(self.shape).encode()).digest()


@dataclass(frozen=True)
class AnyresPreprocessor(Preprocessor):
    """Pictures on grids of square tiles, with margins.

    Attributes:
        rules: How tiles become patches; the pixel bounds are areas of whole grids.
        size: Side of a tile in pixels.
        sizes: Heights and widths of the grids, in pixels.
        most_tokens: Tokens above which a picture's are resampled to fewer.
    """

    rules: PixelRules
    size: int
    sizes: tuple[tuple[int, int], ...]
    most_tokens: int

    def prepare_images(
        self, images: Any, min_pixels: int | None, max_pixels: int | None
    ) -> list[VisionInput]:
        """Resizes the pictures of a prompt; see `Preprocessor.prepare_images`.

        The bounds are of the grid's area; the smallest grid is allowed whatever they say. They do
        not concern several pictures.
        """
        pictures = to_pictures(images)
        for picture in pictures:
            check_ratio(picture.height, picture.width)
        if len(pictures) > 1:
            return [self._single(picture) for picture in pictures]
        sizes = self._sizes(*budget(self.rules, min_pixels, max_pixels))
        return [self._tiled(picture, sizes) for picture in pictures]

    @property
    def _side(self) -> int:
        """Patches of a tile's side."""
        return self.size // self.rules.patch

    def _sizes(self, least: int, most: int) -> list[tuple[int, int]]:
        """The grids within bounds."""
        fitting = [size for size in self.sizes if math.prod(size) <= most]
        fitting = fitting or [min(self.sizes, key=math.prod)]
        return [size for size in fitting if math.prod(size) >= least] or [
            max(fitting, key=math.prod)
        ]

    def _tiled(self, picture: Image.Image, sizes: list[tuple[int, int]]) -> AnyresInput:
        """A thumbnail and tiles."""
        height, width = picture.height, picture.width
        tall, wide = best_resolution(height, width, sizes)
        tile_rows, tile_cols = tall // self.size, wide // self.size
        rows, cols = kept(height, width, tile_rows * self._side, tile_cols * self._side)
        out = thinned(rows, cols, self.most_tokens) if rows and cols else (0, 0)
        if not all(out):
            raise ValueError(
                f"The picture is {width}x{height} pixels, too narrow to leave one token on a side. "
                "Crop or pad it (Image Crop / Pad Image)."
            )
        pixels = self._cut(picture, tall, wide)
        shape = AnyresGrid(
            len(pixels), self._side, self._side, tile_rows, tile_cols, rows, cols, *out
        )
        return AnyresInput(pixels, self.rules, 1, *out, shape=shape, size=(height, width))

    def _cut(self, picture: Image.Image, tall: int, wide: int) -> tuple[np.ndarray, ...]:
        """The thumbnail, stretched to a tile, then the tiles around the picture on black."""
        scale_w, scale_h = wide / picture.width, tall / picture.height
        if scale_w < scale_h:
            size = wide, min(math.ceil(picture.height * scale_w), tall)
        else:
            size = min(math.ceil(picture.width * scale_h), wide), tall
        whole = Image.new("RGB", (wide, tall))
        resized = picture.resize(size, Image.Resampling.BICUBIC)
        whole.paste(resized, ((wide - size[0]) // 2, (tall - size[1]) // 2))
        tiles = rearrange(
            np.asarray(whole), "(r h) (c w) d -> (r c) h w d", h=self.size, w=self.size
        )
        small = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(small), *tiles

    def _single(self, picture: Image.Image) -> AnyresInput:
        """One tile: the picture in the middle of a square of the mean colour."""
        side = max(picture.size)
        colour = tuple(int(value * 255) for value in self.rules.mean)
        square = Image.new("RGB", (side, side), colour)
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        pixels = np.asarray(square.resize((self.size, self.size), Image.Resampling.BICUBIC))
        shape = AnyresGrid(1, self._side, self._side)
        size = picture.height, picture.width
        return AnyresInput((pixels,), self.rules, 1, *shape[1:3], shape=shape, size=size)


def read_anyres_preprocessor(folder: Path, config: dict[str, Any]) -> AnyresPreprocessor:
    """Reads a model folder's preprocessor files.

    Args:
        folder: In Hugging Face layout. A missing file means the published values.
        config: Its config.json.

    Raises:
        ValueError: A file that is not JSON, contradicts config.json, or asks for what is not done
            here.
    """
    content, _ = read_preprocessors(folder)
    vision = config.get("vision_config") or {}
    size, patch = int(vision.get("image_size", TILE)), int(vision.get("patch_size", PATCH))
    said = content.get("size") or {}
    sides = {said.get(key, size) for key in ("height", "width", "shortest_edge")}
    known = [tuple(one) for one in config.get("image_grid_pinpoints") or ()]
    known = known or [(size * rows, size * cols) for rows in SIDES for cols in SIDES]
    theirs = [tuple(one) for one in content.get("image_grid_pinpoints") or known]
    if sides != {size} or theirs != known:
        raise ValueError(
            f"The model folder {folder} contradicts itself: its preprocessor file and config.json "
            "name different tiles (size, image_grid_pinpoints). Both files must come from the same "
            "model."
        )
    if not all(len(one) == 2 and min(one) > 0 and not (one[0] % size or one[1] % size)
               for one in known):  # fmt: skip
        raise ValueError(
            f"The config.json of {folder} names grids (image_grid_pinpoints) that are not made of "
            f"whole tiles of {size} pixels. Download it again."
        )
    _check_settings(folder, content, config)
    tiles = int(config.get("vision_aspect_ratio", MOST).removeprefix("anyres_max_"))
    areas = [math.prod(one) for one in known]
    mean, std = (tuple(content.get(key) or (0.5,) * 3) for key in ("image_mean", "image_std"))
    rules = PixelRules(patch, 1, 1, mean, std, min(areas), max(areas))
    return AnyresPreprocessor(rules, size, tuple(known), tiles * (size // patch) ** 2)


def _check_settings(folder: Path, content: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuses settings that no published model has."""
    published = {
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": MOST,
        "resample": int(Image.Resampling.BICUBIC),
        "do_resize": True,
    }
    for name, want in published.items():
        found = (config | content).get(name, want)
        counted = name == "vision_aspect_ratio" and str(found).removeprefix("anyres_max_").isdigit()
        if found != want and not counted:
            raise ValueError(
                f"The model folder {folder} asks for {name} = {told(found)}, which is not done "
                f"here; the published models have {told(want)}. Choose one of them."
            )
