"""Pictures for towers of one size: every picture is squeezed into the same square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..quoted import told
from .images import PixelRules, to_pictures
from .patches import Patches, to_tiles
from .preprocessor import Preprocessor, VisionInput, read_preprocessors

_PUBLISHED = {"image_size": 896, "patch_size": 14}


@dataclass(frozen=True, eq=False)
class SquareInput(VisionInput):
    """A picture of the tower's size, which goes in whole."""

    def patches(self) -> Patches:
        """Pixels [1, 3, S, S] for the vision tower, which cuts them itself."""
        grid = (1, self.rows * self.rules.merge, self.cols * self.rules.merge)
        return to_tiles(self.pixels, grid, self.rules)


@dataclass(frozen=True)
class SquarePreprocessor(Preprocessor):
    """Pictures at the one size that the tower takes.

    A pixel budget changes nothing: whatever its size and shape, a picture is the same number of
    tokens.

    Attributes:
        rules: Of one picture.
        side: S, side of the square in pixels.
        resample: Filter of the resize, as PIL numbers them.
    """

    rules: PixelRules
    side: int
    resample: Image.Resampling = Image.Resampling.BILINEAR

    def prepare_images(
        self, images: Any, min_pixels: int | None, max_pixels: int | None
    ) -> list[VisionInput]:
        """Resizes the pictures of a prompt, each by itself; see `Look.see_images`."""
        steps = self.side // (self.rules.patch * self.rules.merge)
        size = (self.side, self.side)
        seen = (np.asarray(picture.resize(size, self.resample)) for picture in to_pictures(images))
        return [SquareInput((pixels,), self.rules, 1, steps, steps) for pixels in seen]


def read_square_preprocessor(folder: Path, config: dict[str, Any]) -> SquarePreprocessor:
    """Reads a Gemma 3 folder's preprocessor files.

    Args:
        folder: In Hugging Face layout. A missing file means the published values.
        config: Its config.json.

    Raises:
        ValueError: A file that is not JSON, contradicts config.json, or asks for what is not done
            here.
    """
    vision = config.get("vision_config") or {}
    side, patch = (int(vision.get(key, known)) for key, known in _PUBLISHED.items())
    tokens = int(config.get("mm_tokens_per_image", 256))
    steps = math.isqrt(max(tokens, 0))
    merge = side // (patch * steps) if steps else 0
    if merge * steps * patch != side or steps**2 != tokens:
        raise ValueError(
            f"The config.json of {folder} contradicts itself: {tokens} tokens a picture "
            f"(mm_tokens_per_image) of {side}x{side} pixels in patches of {patch}. "
            "Download it again."
        )
    content, _ = read_preprocessors(folder)
    _check_preprocessor(folder, content, side)
    rules = PixelRules(
        patch,
        merge,
        1,
        tuple(content.get("image_mean") or (0.5,) * 3),
        tuple(content.get("image_std") or (0.5,) * 3),
        side * side,
        side * side,
    )
    resample = content.get("resample", Image.Resampling.BILINEAR)
    return SquarePreprocessor(rules, side, Image.Resampling(resample))


def _check_preprocessor(folder: Path, content: dict[str, Any], side: int) -> None:
    size = content.get("size") or {}
    said = [size.get(key, side) for key in ("height", "width")]
    if said != [side, side]:
        raise ValueError(
            f"The model folder {folder} contradicts itself: pictures are {said[1]}x{said[0]} in "
            f"the preprocessor file and {side}x{side} in config.json. Both files must come from "
            "the same model."
        )
    if content.get("do_pan_and_scan"):
        raise ValueError(
            f"The preprocessor file of {folder} asks for pan-and-scan (do_pan_and_scan), which is "
            "not done here: a picture is seen whole, as the published models have it. Set it to "
            "false, and crop with Image Crop where details matter."
        )
    if content.get("resample", 2) not in list(Image.Resampling):
        raise ValueError(
            f"The preprocessor file of {folder} names a filter that PIL does not have (resample "
            f"{told(content['resample'])}). Download it again."
        )
