"""The sizes that pictures are seen at: the Qwen-VL families' resizing with PIL alone.

Equal, value for value, to the families' PIL-based Hugging Face processors (Qwen2-VL, Qwen2.5-VL,
Qwen3-VL), so that torchvision need not be installed and every backend sees the same pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .picture_inputs import to_pictures

__all__ = ["PixelRules", "fit", "read_rules", "resize", "to_pictures"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_RATIO = 200
# What both files of a model say: in the preprocessor file, in `vision_config` of config.json.
_SAME = {
    "patch_size": "patch_size",
    "temporal_patch_size": "temporal_patch_size",
    "merge_size": "spatial_merge_size",
}
MOST_PIXELS = 2**28  # of one picture as a model sees it; its patches take 6 GB


@dataclass(frozen=True)
class PixelRules:
    """How a family cuts pictures: what preprocessor_config.json holds.

    Attributes:
        patch: side of a patch in pixels.
        merge: patches per side that become one token.
        temporal: frames per patch; a still picture is repeated that often.
        mean, std: per channel (red, green, blue), of values in 0..1.
        min_pixels, max_pixels: bounds of the area a picture is resized to.
    """

    patch: int
    merge: int
    temporal: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min_pixels: int
    max_pixels: int


QWEN2 = PixelRules(14, 2, 2, CLIP_MEAN, CLIP_STD, 56 * 56, 28 * 28 * 1280)
QWEN3 = PixelRules(16, 2, 2, (0.5,) * 3, (0.5,) * 3, 65536, 16777216)


def read_rules(preprocessor_config: dict, vision_config: dict | None = None) -> PixelRules:
    """Reads how a checkpoint wants its pictures.

    Args:
        preprocessor_config: content of preprocessor_config.json in either layout (`min_pixels` and
            `max_pixels`, or `size` with `shortest_edge` and `longest_edge`), or of the
            processor_config.json that transformers 5 writes. Empty: the family's published values.
        vision_config: `vision_config` of config.json; says patch size and merge when the other
            file does not.

    Returns:
        The rules. Keys that are missing take the defaults of the Hugging Face processor.

    Raises:
        ValueError: the two files disagree on the patch, or the numbers cannot be.
    """
    config = preprocessor_config.get("image_processor") or preprocessor_config
    vision = vision_config or {}
    # Only a missing file is filled in by family; a file that is there means what Hugging Face reads
    default = QWEN3 if not config and vision.get("patch_size") == QWEN3.patch else QWEN2
    return rules_from(config, vision, default)


def rules_from(config: dict, vision: dict, default: PixelRules) -> PixelRules:
    """Fills a file's numbers into `default`; see `read_rules`."""
    size = config.get("size") or {}

    def number(*names: str, fallback: int) -> int:
        values = [source.get(name) for name in names for source in (config, size)]
        return int(next((value for value in values if value is not None), fallback))

    for key, its in _SAME.items():
        ours, theirs = config.get(key), vision.get(its)
        if ours is not None and theirs is not None and ours != theirs:
            raise ValueError(
                f"The model folder contradicts itself: {key} is {ours} in the preprocessor file "
                f"and {its} {theirs} in config.json. Both files must come from the same model."
            )
    patch = vision.get("patch_size", default.patch)
    rules = PixelRules(
        patch=number("patch_size", fallback=patch),
        merge=number("merge_size", fallback=vision.get("spatial_merge_size", default.merge)),
        temporal=number("temporal_patch_size", fallback=default.temporal),
        mean=tuple(config.get("image_mean") or default.mean),
        std=tuple(config.get("image_std") or default.std),
        min_pixels=number("min_pixels", "shortest_edge", fallback=default.min_pixels),
        max_pixels=number("max_pixels", "longest_edge", fallback=default.max_pixels),
    )
    if rules.min_pixels > rules.max_pixels:
        raise ValueError(
            f"The preprocessor file asks for at least {rules.min_pixels} pixels (min_pixels, or "
            f"shortest_edge of size) and at most {rules.max_pixels} (max_pixels, or longest_edge "
            "of size; both are areas). Correct it, or download it again."
        )
    check_budget(rules.min_pixels, rules.max_pixels)
    return rules


def check_budget(least: int, most: int) -> None:
    """Raises ValueError when the pixel bounds cannot hold together."""
    if least < 0 or most < 1:
        raise ValueError(
            f"A pixel budget cannot be negative or nothing; got {least} to {most} pixels."
        )
    if least > MOST_PIXELS:
        raise ValueError(
            f"min_pixels is {least:.6g}, but no picture is made larger than {MOST_PIXELS} pixels "
            "(16384 x 16384). Lower min_pixels."
        )
    if least > most:
        raise ValueError(
            f"The pixel budget asks for at least {least} and at most {most} pixels. "
            "Lower min_pixels or raise max_pixels."
        )


def budget(rules: PixelRules, min_pixels: int | None, max_pixels: int | None) -> tuple[int, int]:
    """The pixel bounds in force: what was asked, else the model's own.

    When only one bound is given, the model's other bound gives way to it: a maximum of 224 x 224
    works with a model whose own minimum is 256 x 256.

    Returns:
        Smallest and largest area in pixels.

    Raises:
        ValueError: the bounds exclude each other.
    """
    least = rules.min_pixels if min_pixels is None else min_pixels
    most = rules.max_pixels if max_pixels is None else max_pixels
    if min_pixels is None:
        least = min(least, most)
    elif max_pixels is None:
        most = max(least, most)
    check_budget(least, most)
    return least, most


def check_ratio(height: int, width: int) -> None:
    """Raises ValueError for pictures more than 200 times as long as wide, as the families do."""
    if height < 1 or width < 1:
        raise ValueError(f"The picture is {width}x{height} pixels: there is nothing in it.")
    ratio = max(height, width) / min(height, width)
    if ratio > MAX_RATIO:
        sides = "as wide as high" if width > height else "as high as wide"
        raise ValueError(
            f"The picture is {width}x{height} pixels, {ratio:.0f} times {sides}; the model takes "
            f"pictures at most {MAX_RATIO} times as long as the short side. "
            "Crop or pad it (Image Crop / Pad Image)."
        )


def fit(
    height: int,
    width: int,
    rules: PixelRules,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> tuple[int, int]:
    """The size a picture is resized to: whole tokens, its shape kept, the area within the budget.

    Source: `smart_resize` of the Qwen2-VL processor.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        rules: the family's rules.
        min_pixels: smallest area, None = the model's.
        max_pixels: largest area, None = the model's.

    Returns:
        Height and width, multiples of patch x merge.

    Raises:
        ValueError: a picture more than 200 times as long as wide, or an impossible budget.
    """
    check_ratio(height, width)
    least, most = budget(rules, min_pixels, max_pixels)
    return fit_area(height, width, 1, 1, rules.patch * rules.merge, (max(least, 1), most))


def fit_area(
    height: int, width: int, frames: int, counted: int, step: int, bounds: tuple[int, int]
) -> tuple[int, int]:
    """Rounds to multiples of `step`, then scales until `frames * height * width` is in bounds.

    Args:
        height: in pixels.
        width: in pixels.
        frames: how often the area counts when the scale is computed.
        counted: how often it counts when it is compared with the bounds; the families' video rule
            rounds it to whole temporal patches there, and only there.
        step: side of a token in pixels.
        bounds: smallest and largest `frames * height * width`.
    """
    least, most = bounds
    tall, wide = round(height / step) * step, round(width / step) * step
    area = frames * height * width
    if counted * tall * wide > most:
        shrink = math.sqrt(area / most)
        tall, wide = (max(step, math.floor(s / shrink / step) * step) for s in (height, width))
    elif counted * tall * wide < least:
        grow = math.sqrt(least / area)
        tall, wide = (math.ceil(s * grow / step) * step for s in (height, width))
    return tall, wide


def resize(picture: Image.Image, height: int, width: int) -> np.ndarray:
    """Antialiased bicubic resize of an RGB picture; returns `[height, width, 3]` uint8."""
    return np.asarray(picture.resize((width, height), resample=Image.Resampling.BICUBIC))
