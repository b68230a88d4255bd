"""A picture that takes part in a prompt: how much, when, which part of it, how closely seen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ..quoted import told

ALL, PICTURE, WORDS, POOLED = KEEPS = ("all", "picture", "words", "pooled")
CROP, WEIGHT = MASK_USES = ("crop", "weight")
MOST_STRENGTH = 3.0
_NUMBERS: dict[str, tuple[type, ...]] = {
    "strength": (float, int),
    "start": (float, int),
    "end": (float, int),
    "pool_size": (int,),
    "max_pixels": (int, type(None)),
}
SHAPE_TOLERANCE = 0.05  # of width by height, between a mask and its picture
MARKED = 0.5  # of a mask's brightest: what a soft edge or a noisy mask leaves below does not count


@dataclass(frozen=True, eq=False)
class PictureReference:
    """One picture of an image prompt.

    Attributes:
        image: ``[H, W, C]`` or ``[1, H, W, C]``, float in 0..1.
        strength: 0 = as if it were not there, 1 = the usual amount, up to 3.
        start, end: Where in the sampling schedule it counts, 0..1.
        keep: Which tokens go on: `all`; `picture` = the picture's; `words` = the others, which have
            read the picture; `pooled` = as `picture` where it is blended into the words, as `all`
            where it stands in the prompt, with at most `pool_size` tokens of the picture.
        pool_size: Of `pooled`.
        mask: ``[H, W]`` or ``[1, H, W]``, 0..1, of the picture's shape at any size; None = all.
        mask_use: `crop` = the box around what the mask marks; `weight` = the picture's tokens are
            multiplied by it.
        max_pixels: Most pixels of it as the VLM sees it; None = the target's.
        tiles: Its four quarters are looked at as well, each as closely as the whole.

    Raises:
        TypeError: An image or a mask that is no floating point tensor.
        ValueError: A value out of its range, a mask of another shape than the picture, or one that
            marks nothing.
    """

    image: torch.Tensor
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    keep: str = ALL
    pool_size: int = 64
    mask: torch.Tensor | None = None
    mask_use: str = CROP
    max_pixels: int | None = None
    tiles: bool = False

    def __post_init__(self) -> None:
        image = _plane(self.image, 3, "image", "[height, width, channels]")
        object.__setattr__(self, "image", image)
        if self.mask is not None:
            object.__setattr__(self, "mask", _plane(self.mask, 2, "mask", "[height, width]"))
            self._check_mask()
        self._check_numbers()
        for name, value, known in (
            ("keep", self.keep, KEEPS),
            ("mask_use", self.mask_use, MASK_USES),
        ):
            if value not in known:
                raise ValueError(
                    f"{name} of a picture reference is {told(value)}, expected one of: "
                    f"{', '.join(known)}."
                )
        if self.tiles and min(image.shape[:2]) < 2:
            raise ValueError(
                f"A picture of {_size(image)} pixels has no quarters. Set tiles off, or take a "
                "larger picture."
            )

    def __repr__(self) -> str:
        masked = "" if self.mask is None else f", mask {self.mask_use}"
        return (
            f"PictureReference({_size(self.image)}, strength {self.strength:g}, {self.start:g} to "
            f"{self.end:g}, keep {self.keep}{masked})"
        )

    def _check_mask(self) -> None:
        if self.mask is None:
            return
        if not bool(torch.isfinite(self.mask).all()):
            raise ValueError(
                "The mask of a picture reference holds NaN or Inf. Look at what made it."
            )
        (height, width), (rows, cols) = self.image.shape[:2], self.mask.shape
        if abs(cols * height / (rows * width) - 1) > SHAPE_TOLERANCE:
            raise ValueError(
                f"This mask is {_size(self.mask)} pixels, its picture {_size(self.image)}: they "
                "differ in shape. Connect a mask that was made for this picture, or none."
            )
        if not bool((self.mask > 0).any()):
            raise ValueError(
                "This mask marks nothing: all of it is black, as it is of a picture with alpha and "
                "nothing transparent. Paint what should count in the mask editor, or take the mask "
                "off: without one the whole picture counts."
            )

    def _check_numbers(self) -> None:
        for name, kinds in _NUMBERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise TypeError(
                    f"{name} of a picture reference is a number, this is {type(value).__name__}. "
                    "Give one."
                )
        if not (math.isfinite(self.strength) and 0 <= self.strength <= MOST_STRENGTH):
            raise ValueError(
                f"strength of a picture reference is {self.strength}, expected 0 (not there) to "
                f"{MOST_STRENGTH:g}. 1 is the usual amount."
            )
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(
                f"A picture reference counts from {self.start:g} to {self.end:g} of the schedule; "
                "expected a start_percent below end_percent, both in 0 to 1."
            )
        for name, value in (("pool_size", self.pool_size), ("max_pixels", self.max_pixels)):
            if value is not None and value < 1:
                raise ValueError(
                    f"{name} of a picture reference is {value}, expected a whole number from 1."
                )


@dataclass(frozen=True, eq=False)
class View:
    """What the VLM is shown of a picture: all of it, or a quarter.

    Attributes:
        image: ``[H, W, C]``.
        weights: ``[h, w]``, the mask over it; None = all of it counts.
    """

    image: torch.Tensor
    weights: torch.Tensor | None


def views_of(picture: PictureReference) -> list[View]:
    """What the VLM is shown: the picture, cropped where its mask is for that; then its quarters."""
    image, mask = picture.image, picture.mask
    if mask is not None and picture.mask_use == CROP:
        image, mask = crop_to_mask(image, mask), None
    if not picture.tiles:
        return [View(image, mask)]
    parts = zip(_quarters(image), [None] * 4 if mask is None else _quarters(mask), strict=True)
    return [View(image, mask), *(View(part, weights) for part, weights in parts)]


def crop_to_mask(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The smallest box of a picture that holds everything its mask marks.

    Args:
        image: ``[H, W, C]``.
        mask: ``[h, w]``, at least one pixel above 0; what is at least half as bright as its
            brightest pixel counts.

    Returns:
        ``[H', W', C]``; pixels that the box cuts stay whole.
    """
    marked = mask >= MARKED * mask.max()
    box = [
        _bounds(marked.any(dim=1 - axis), mask.shape[axis], image.shape[axis]) for axis in (0, 1)
    ]
    return image[slice(*box[0]), slice(*box[1])]


def _bounds(marked: torch.Tensor, size: int, pixels: int) -> tuple[int, int]:
    """From where to where pixels lie under what is marked of a line of `size`."""
    at = marked.nonzero().flatten().tolist()
    return at[0] * pixels // size, -(-(at[-1] + 1) * pixels // size)


def _quarters(plane: torch.Tensor) -> Iterable[torch.Tensor]:
    """Top left, top right, bottom left, bottom right."""
    row, col = plane.shape[0] // 2, plane.shape[1] // 2
    return [part for half in (plane[:row], plane[row:]) for part in (half[:, :col], half[:, col:])]


def _plane(value: torch.Tensor, dims: int, name: str, expected: str) -> torch.Tensor:
    """A picture or mask without its batch of one."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise TypeError(
            f"{name} of a picture reference is a floating point tensor {expected}, this is {kind}."
        )
    if value.ndim == dims + 1 and value.shape[0] == 1:
        value = value[0]
    if value.ndim != dims or 0 in value.shape:
        raise ValueError(
            f"{name} of a picture reference is {expected}, this is {list(value.shape)}. Make one "
            "reference for each picture of a batch."
        )
    return value


def _size(plane: torch.Tensor) -> str:
    return f"{plane.shape[1]} x {plane.shape[0]}"
