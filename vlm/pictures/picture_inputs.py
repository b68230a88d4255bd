"""Everything a person may hand over as a picture, as 8-bit RGB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from ..quoted import reason
from .media_files import Film, read_picture
from .upright import make_upright

Picture: TypeAlias = Image.Image | torch.Tensor | np.ndarray | str | Path
# How far a resize or a VAE may overshoot 0..1; beyond it the numbers mean something else.
OVERSHOOT = 0.5
_LARGEST = 2**28  # pixels of a picture: 16384 x 16384
_MOST = 2**31  # numbers of a tensor whose memory holds fewer, repeated by strides of 0
_DEEPEST = 8  # lists of pictures in lists, one that holds itself among them
_EXPECTED = (
    "Expected a PIL picture, the path of a picture file, a tensor or array [H, W, C] or "
    "[B, H, W, C] (float 0..1 or uint8 0..255), or a list of these."
)


def to_pictures(images: Picture | Sequence[Picture] | None) -> list[Image.Image]:
    """Turns pictures of any kind into a list of RGB pictures, in order.

    Args:
        images: a PIL picture of any mode, turned as its EXIF data say; the path of a picture file;
            a tensor or array `[H, W]`, `[H, W, C]` or `[B, H, W, C]` with 1, 3 or 4 channels,
            float in 0..1 or uint8 in 0..255 (ComfyUI's IMAGE; a batch is several pictures); or a
            list that mixes these. None: no pictures.

    Returns:
        PIL pictures of mode RGB. Small overshoot (0.5) is clipped to 0..1, and values are rounded
        to 8 bits, which is what picture files hold. What is transparent is laid on white; grey is
        repeated.

    Raises:
        ValueError: NaN, Inf or numbers far outside 0..1, whole numbers other than uint8, an empty
            batch, a shape that is no picture, a file that is none.
        FileNotFoundError: no such file.
        TypeError: something else.
    """
    return _pictures(images, 0)


def _pictures(images: Any, depth: int) -> list[Image.Image]:
    if images is None:
        return []
    if isinstance(images, Image.Image):
        return [_from_pil(images)]
    if isinstance(images, str | Path):
        return [_from_pil(read_picture(images))]
    if isinstance(images, np.ndarray):
        return _from_tensor(_as_tensor(images))
    if isinstance(images, torch.Tensor):
        return _from_tensor(images)
    if isinstance(images, list | tuple | Film):
        if depth == _DEEPEST:
            raise ValueError(f"Lists of pictures lie in one another, {depth} deep. {_EXPECTED}")
        return [picture for image in images for picture in _pictures(image, depth + 1)]
    raise TypeError(f"A picture of type {type(images).__name__} cannot be read. {_EXPECTED}")


def open_frames(video: Any) -> tuple[int, Callable[[Sequence[int]], list[Image.Image]]]:
    """A video's number of frames, and what gives some of them: the others are never converted.

    Args:
        video: Frames, as `to_pictures` takes them; or the `Film` of a file.

    Returns:
        The number, and a function of ascending frame numbers (origin 0) to RGB pictures of one
        size.

    Raises:
        ValueError: As `to_pictures`.
        TypeError: As `to_pictures`.
    """
    if isinstance(video, Film):
        return len(video), lambda indices: of_one_size(to_pictures(video.pick(indices)))
    if isinstance(video, torch.Tensor | np.ndarray) and video.ndim == 4:
        return len(video), lambda indices: to_pictures(video[list(indices)])
    every = of_one_size(to_pictures(video))
    return len(every), lambda indices: [every[index] for index in indices]


def of_one_size(pictures: list[Image.Image]) -> list[Image.Image]:
    """Frames, as they are; raises ValueError where they differ in size."""
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) > 1:
        names = ", ".join(f"{width}x{height}" for width, height in sizes[:3])
        raise ValueError(
            f"The frames of a video must be of one size, these are {names}. "
            "Resize them first (Upscale Image), or give them as separate images."
        )
    return pictures


def _from_pil(picture: Image.Image) -> Image.Image:
    if min(picture.size) < 1:
        raise ValueError(
            f"The picture is {picture.width}x{picture.height} pixels: there is nothing in it."
        )
    try:
        picture = make_upright(picture)
    except (OSError, SyntaxError, ValueError) as error:  # opened, but not decoded until now
        raise ValueError(f"The picture cannot be read ({reason(error)}). Open it again.") from error
    if picture.mode == "F":
        return _from_tensor(torch.from_numpy(np.array(picture)))[0]
    if picture.mode.startswith("I"):  # 16 bits per pixel; PIL itself would clip them to white
        values = np.array(picture).astype(np.float64)
        top = 65535.0 if values.max() > 255 or picture.mode != "I" else 255.0
        return _from_tensor(torch.from_numpy(values / top))[0]
    return picture


def _as_tensor(images: np.ndarray) -> torch.Tensor:
    """The same numbers as a tensor, without a copy where that will do."""
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise ValueError(f"The picture is an array of {images.dtype}. {_EXPECTED}")
    native = images.dtype.newbyteorder("=")
    if images.dtype.kind == "f" and images.dtype.itemsize > 8:
        native = np.dtype(np.float64)
    return torch.from_numpy(np.array(images, native, order="C"))


def _from_tensor(images: torch.Tensor) -> list[Image.Image]:
    _check(images)
    if images.ndim == 2:
        images = images[:, :, None]
    if images.ndim == 3:
        images = images[None]
    images = images.detach().cpu()
    values = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    _check_range(values)
    values = values.clamp(0, 1)
    if values.shape[-1] == 4:
        colour, alpha = values[..., :3], values[..., 3:]
        values = colour * alpha + (1 - alpha)
    values = values.expand(-1, -1, -1, 3)
    levels = values.mul(255).round().to(torch.uint8).numpy()
    return [Image.fromarray(np.ascontiguousarray(picture)) for picture in levels]


def _check_range(values: torch.Tensor) -> None:
    low, high = (float(bound) for bound in torch.aminmax(values))
    if not torch.isfinite(values).all():
        raise ValueError(
            "The picture contains NaN or Inf: what made it failed. Look at it; if it comes from a "
            "VAE, run the VAE in float32."
        )
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        fix = "Divide it by 255." if high > 2 else "Scale it to 0..1."
        raise ValueError(
            f"The picture is a float tensor with values from {low:.4g} to {high:.4g}, expected "
            f"0..1 (or uint8 in 0..255). {fix}"
        )


def _check(images: torch.Tensor) -> None:
    shape = list(images.shape)
    kind = str(images.dtype).removeprefix("torch.")
    if images.layout != torch.strided or images.is_meta or images.is_quantized:
        state = "without data (meta)" if images.is_meta else "sparse or quantised"
        raise ValueError(f"The picture is a tensor {state}, expected a plain dense one.")
    if not images.is_floating_point() and images.dtype != torch.uint8:
        raise ValueError(
            f"The picture is a tensor of {kind}. Expected floating-point values in 0..1, or uint8 "
            "in 0..255."
        )
    if images.ndim not in (2, 3, 4) or (images.ndim > 2 and shape[-1] not in (1, 3, 4)):
        raise ValueError(
            f"A tensor of shape {shape} is not a picture. Expected [H, W, C] or [B, H, W, C] "
            "with 1, 3 or 4 channels last."
        )
    rows, cols = shape[-3:-1] if images.ndim > 2 else shape
    if rows * cols > _LARGEST or (images.numel() > _MOST and _repeats(images)):
        raise ValueError(
            f"A tensor of shape {shape} is larger than any picture. Expected at most {_LARGEST} "
            "pixels in each."
        )
    if 0 in shape:
        raise ValueError(
            f"The picture batch is empty (shape {shape}). Connect at least one picture."
        )


def _repeats(images: torch.Tensor) -> bool:
    """Whether a tensor has more numbers than its memory."""
    return images.numel() * images.element_size() > images.untyped_storage().nbytes()
