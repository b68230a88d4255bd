"""The pictures beside captions."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..pictures.images import fit_area, resize
from ..pictures.media_files import read_picture
from ..pictures.upright import make_upright
from ..quoted import reason
from .captions import BadCaption, Caption
from .dit import CELL


def load_picture(caption: Caption) -> Image.Image | None:
    """The picture of a caption, RGB; None where there is none.

    Raises:
        ValueError: It cannot be read; names the row.
    """
    if caption.picture is None:
        return None
    try:
        if isinstance(caption.picture, str):
            return read_picture(Path(caption.picture)).convert("RGB")
        with Image.open(BytesIO(caption.picture)) as picture:
            return make_upright(picture).convert("RGB")
    except Exception as error:  # what a damaged picture ends in depends on its kind
        raise BadCaption(
            f"The picture of {caption.where} cannot be read ({reason(error)}). Mend the row or "
            "leave it out."
        ) from error


def to_pixels(picture: Image.Image, size: int) -> torch.Tensor:
    """A picture as a VAE reads it, about `size` x `size` pixels in its own shape.

    Returns:
        [3, H, W] float32 in -1..1, H and W multiples of 16.
    """
    area = size * size
    tall, wide = fit_area(picture.height, picture.width, 1, 1, CELL, (area, area))
    pixels = torch.from_numpy(np.array(resize(picture, tall, wide))).permute(2, 0, 1)
    return pixels.float() / 127.5 - 1
