"""Everything a person may hand over as a picture, as 8-bit RGB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

Picture = Image.Image | torch.Tensor


def to_pictures(images: Picture | Sequence[Picture] | None) -> list[Image.Image]:
    """Turns pictures of any kind into a list of RGB pictures, in order.

    Args:
        images: a PIL picture of any mode; a float tensor `[H, W]`, `[H, W, C]` or `[B, H, W, C]`
            in 0..1 with 1, 3 or 4 channels (ComfyUI's IMAGE; a batch is several pictures); or a
            list that mixes these. None: no pictures.

    Returns:
        PIL pictures of mode RGB. Values are clipped to 0..1 and rounded to 8 bits, which is what
        picture files hold. Alpha is dropped, as ComfyUI does; grey is repeated.

    Raises:
        ValueError: NaN or Inf, whole-number tensors, an empty batch, a shape that is no picture.
        TypeError: neither a PIL picture nor a tensor.
    """
    if images is None:
        return []
    if isinstance(images, Image.Image):
        return [_from_pil(images)]
    if isinstance(images, torch.Tensor):
        return _from_tensor(images)
    if isinstance(images, list | tuple):
        return [picture for image in images for picture in to_pictures(image)]
    raise TypeError(
        f"A picture of type {type(images).__name__} cannot be read. "
        "Expected a PIL picture, a float tensor [H, W, C] or [B, H, W, C] in 0..1, or a list."
    )


def _from_pil(picture: Image.Image) -> Image.Image:
    if min(picture.size) < 1:
        raise ValueError(
            f"The picture is {picture.width}x{picture.height} pixels: there is nothing in it."
        )
    if picture.mode == "F":
        return _from_tensor(torch.from_numpy(np.array(picture)))[0]
    if picture.mode.startswith("I"):  # 16 bits per pixel; PIL itself would clip them to white
        values = np.array(picture).astype(np.float64)
        top = 65535.0 if values.max() > 255 or picture.mode != "I" else 255.0
        return _from_tensor(torch.from_numpy(values / top))[0]
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _from_tensor(images: torch.Tensor) -> list[Image.Image]:
    _check(images)
    if images.ndim == 2:
        images = images[:, :, None]
    if images.ndim == 3:
        images = images[None]
    images = images.detach().to("cpu", torch.float32)
    if not torch.isfinite(images).all():
        raise ValueError(
            "The picture contains NaN or Inf: an earlier node failed. "
            "Look at it with Preview Image; if it comes from VAE Decode, run the VAE in float32."
        )
    colour = images.expand(-1, -1, -1, 3) if images.shape[-1] == 1 else images[..., :3]
    levels = colour.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    return [Image.fromarray(np.ascontiguousarray(picture)) for picture in levels]


def _check(images: torch.Tensor) -> None:
    shape = list(images.shape)
    if not images.is_floating_point():
        raise ValueError(
            f"The picture is a tensor of {str(images.dtype).removeprefix('torch.')}. "
            "Expected floating-point values in 0..1: divide 8-bit values by 255."
        )
    if images.ndim not in (2, 3, 4) or (images.ndim > 2 and shape[-1] not in (1, 3, 4)):
        raise ValueError(
            f"A tensor of shape {shape} is not a picture. Expected [H, W, C] or [B, H, W, C] "
            "with 1, 3 or 4 channels last, as Load Image gives it."
        )
    if 0 in shape:
        raise ValueError(
            f"The picture batch is empty (shape {shape}). Connect at least one picture."
        )
