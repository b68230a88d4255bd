"""How ComfyUI's encode nodes bring a picture to size before their text encoder sees it.

Source: `comfy.utils.common_upscale` and the nodes that the rows of `vlm.targets` name. The numbers
are theirs, bit for bit: area, bilinear and bicubic without antialiasing in float32, Lanczos by PIL
on 8-bit values that are cut off, not rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

Size = tuple[int, int]  # height, width
AREA, BILINEAR, BICUBIC, LANCZOS = "area", "bilinear", "bicubic", "lanczos"

# JoyImage's sizes, as height: first and last width, in steps of 64; and the same turned around.
_TALLEST = {
    512: (1792, 2048),
    576: (1600, 1792),
    640: (1472, 1600),
    704: (1344, 1472),
    768: (1216, 1344),
    832: (1152, 1216),
    896: (1088, 1152),
    960: (1024, 1088),
}


@dataclass(frozen=True)
class NativeResize:
    """What an encode node does to each picture.

    Attributes:
        size: Gives the new height and width of a picture of some height and width.
        way: How it is resampled: AREA, BILINEAR, BICUBIC or LANCZOS.
        crop: Whether it is first cut, around its middle, to the new shape; else it is stretched.
        encoder_way: How the text encoder behind the node resizes once more, to whole tokens.
        always: Whether a picture that has its size already is resampled all the same.
    """

    size: Callable[[int, int], Size]
    way: str
    crop: bool = False
    encoder_way: str = BILINEAR
    always: bool = False

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """What is left of a picture: left, upper, right and lower edge in pixels."""
        left = upper = 0
        if self.crop:
            new_height, new_width = self.size(height, width)
            old_shape, new_shape = width / height, new_width / new_height
            if old_shape > new_shape:
                left = round((width - width * (new_shape / old_shape)) / 2)
            elif old_shape < new_shape:
                upper = round((height - height * (old_shape / new_shape)) / 2)
        return left, upper, width - left, height - upper

    def apply(self, picture: torch.Tensor) -> torch.Tensor:
        """A picture float32 [1, H, W, 3] in 0..1 as the node hands it on: [1, h, w, 3]."""
        height, width = picture.shape[1:3]
        size = self.size(height, width)
        if size == (height, width) and not self.always:
            return picture
        left, upper, right, lower = self.box(height, width)
        part = picture[:, upper:lower, left:right]
        if self.way == LANCZOS:
            return _lanczos(part, size)
        resized = torch.nn.functional.interpolate(part.movedim(-1, 1), size=size, mode=self.way)
        return resized.movedim(1, -1)


def of_area(pixels: int, multiple: int = 1, grow: bool = True) -> Callable[[int, int], Size]:
    """Sizes of about that area, the shape kept as far as whole multiples do.

    Args:
        pixels: The area.
        multiple: Sides are multiples of it.
        grow: Whether smaller pictures become larger.
    """

    def size(height: int, width: int) -> Size:
        scale = math.sqrt(pixels / (width * height))
        scale = scale if grow else min(1.0, scale)
        tall, wide = (round(side * scale / multiple) * multiple for side in (height, width))
        return max(multiple, tall), max(multiple, wide)

    return size


def within_edge(pixels: int) -> Callable[[int, int], Size]:
    """Sizes whose longer side is at most that long; smaller pictures stay."""

    def size(height: int, width: int) -> Size:
        longest = max(height, width)
        if longest <= pixels:
            return height, width
        scale = pixels / longest
        return max(1, round(height * scale)), max(1, round(width * scale))

    return size


def joyimage_bucket(height: int, width: int) -> Size:
    """Of JoyImage's sizes the one of the nearest height / width, the lowest of equals."""
    return min(_BUCKETS, key=lambda size: abs(size[0] / size[1] - height / width))


def _buckets() -> tuple[Size, ...]:
    wide = [
        (height, width)
        for height, (first, last) in _TALLEST.items()
        for width in range(first, last + 1, 64)
    ]
    return tuple(sorted([*wide, (1024, 1024), *((width, height) for height, width in wide)]))


_BUCKETS = _buckets()


def _lanczos(picture: torch.Tensor, size: Size) -> torch.Tensor:
    levels = np.clip(255.0 * picture[0].cpu().numpy(), 0, 255).astype(np.uint8)
    resized = Image.fromarray(levels).resize(size[::-1], resample=Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized).astype(np.float32) / 255.0)[None]
