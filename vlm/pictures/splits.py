"""Pictures as SmolVLM sees them: enlarged to whole tiles, split, then the whole as a thumbnail.

Source: `SmolVLMImageProcessor` of transformers, which is that of Idefics 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from PIL import Image

from ..quoted import told
from .images import PixelRules, budget, check_ratio, to_pictures
from .preprocessor import Preprocessor, VisionInput, read_preprocessors
from .tiles import TiledInput

TILE, PATCH, MERGE = 512, 16, 4
LONGEST = 4  # tiles of the longer side in the published files
LONGEST_SIDE = 4096  # in pixels, whatever a file says


def fit_longest(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width with a longer side of `longest` pixels, the other one even."""
    ratio = width / height
    if width >= height:
        width, height = longest, int(longest / ratio)
        height += height % 2
    else:
        height, width = longest, int(longest * ratio)
        width += width % 2
    return max(height, 1), max(width, 1)


def fit_tiles(height: int, width: int, tile: int) -> tuple[int, int]:
    """Height and width of the whole tiles that a picture is stretched to."""
    ratio = width / height
    if width >= height:
        width = math.ceil(width / tile) * tile
        height = math.ceil(int(width / ratio) / tile) * tile
    else:
        height = math.ceil(height / tile) * tile
        width = math.ceil(int(height * ratio) / tile) * tile
    return max(height, tile), max(width, tile)


@dataclass(frozen=True)
class SplitPreprocessor(Preprocessor):
    """Pictures enlarged to a longest side and split into square tiles.

    Attributes:
        rules: How tiles become patches; the pixel bounds are areas of whole tiles.
        size: Side of a tile in pixels.
        longest: Longer side in pixels to which every picture is brought.
        splits: Whether pictures are split; else each is one tile.
    """

    rules: PixelRules
    size: int
    longest: int
    splits: bool = True

    def prepare_images(
        self, images: Any, min_pixels: int | None, max_pixels: int | None
    ) -> list[VisionInput]:
        """Splits the pictures of a prompt; see `Preprocessor.prepare_images`.

        The bounds are of the tiles' area: the longer side becomes as many whole tiles as they
        allow, at least one, whatever they say, and at most what the model was trained with.
        """
        _, most = budget(self.rules, min_pixels, max_pixels)
        seen: list[VisionInput] = []
        for picture in to_pictures(images):
            check_ratio(picture.height, picture.width)
            seen.append(self._split(picture, most))
        return seen

    def _split(self, picture: Image.Image, most: int) -> TiledInput:
        sizes = self._sizes(picture, most)
        for height, width in sizes:
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        rows, cols = picture.height // self.size, picture.width // self.size
        tiles = list(rearrange(np.asarray(picture), "(r h) (c w) d -> (r c) h w d", r=rows, c=cols))
        if len(tiles) > 1:
            square = (self.size, self.size)
            tiles.append(np.asarray(picture.resize(square, Image.Resampling.LANCZOS)))
        side = self.size // (self.rules.patch * self.rules.merge)
        return TiledInput(
            tuple(tiles),
            self.rules,
            1,
            rows * side,
            cols * side,
            tile_rows=rows,
            tile_cols=cols,
        )

    def _sizes(self, picture: Image.Image, most: int) -> list[tuple[int, int]]:
        """The sizes that a picture is brought to, one after the other."""
        size = picture.height, picture.width
        if not self.splits:
            return [fit_longest(*size, self.longest), (self.size, self.size)]
        sides = range(self.size, self.longest, self.size)
        found = []
        for longest in (self.longest, *reversed(sides)):
            first = fit_longest(*size, longest)
            found = [first, fit_tiles(*first, self.size)]
            if math.prod(found[1]) <= most:
                break
        return found


def read_split_preprocessor(folder: Path, config: dict[str, Any]) -> SplitPreprocessor:
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
    tile, patch = int(vision.get("image_size", TILE)), int(vision.get("patch_size", PATCH))
    merge = int(config.get("scale_factor", MERGE))
    said = (content.get("max_image_size") or {}).get("longest_edge", tile)
    if said != tile or (tile // patch) % merge:
        raise ValueError(
            f"The model folder {folder} contradicts itself: tiles are {said} pixels wide in the "
            f"preprocessor file (max_image_size), and the vision tower of config.json takes {tile} "
            f"in patches of {patch}, {merge} x {merge} of which are a token. Both files must come "
            "from the same model."
        )
    for name, want in (("do_resize", True), ("resample", int(Image.Resampling.LANCZOS))):
        if content.get(name, want) != want:
            raise ValueError(
                f"The preprocessor file of {folder} asks for {name} = {told(content[name])}, "
                f"which is not done here; the published models have {told(want)}. Choose one of "
                "them."
            )
    longest = int((content.get("size") or {}).get("longest_edge", LONGEST * tile))
    longest = min(longest, LONGEST_SIDE)
    mean, std = (tuple(content.get(key) or (0.5,) * 3) for key in ("image_mean", "image_std"))
    most = (math.ceil(longest / tile) * tile) ** 2
    rules = PixelRules(patch, merge, 1, mean, std, tile * tile, most)
    return SplitPreprocessor(rules, tile, longest, content.get("do_image_splitting", True))
