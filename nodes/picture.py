"""Picture Reference: a picture of an Image Prompt, and the chain that they form."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..vlm.pictures.reference import (
    KEEPS,
    MASK_USES,
    MOST_STRENGTH,
    PictureReference,
    views_of,
)
from .prompting import need_image, pixel_budget
from .shown import shown
from .sockets import Pictures

# What Load Image gives as MASK of a picture without alpha: this size, all black.
_NO_MASK = (64, 64)


def need_pictures(pictures: Any, socket: str) -> tuple[PictureReference, ...]:
    """A chain of pictures that came over a wire; none is an empty one.

    Raises:
        TypeError: Something else.
    """
    if pictures is None:
        return ()
    if isinstance(pictures, tuple) and all(isinstance(x, PictureReference) for x in pictures):
        return pictures
    raise TypeError(
        f"{socket} takes a chain of pictures, this is {type(pictures).__name__}. Connect Picture "
        "Reference."
    )


class Picture(io.ComfyNode):
    """Adds a picture to a chain."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        _, max_pixels = pixel_budget()
        return io.Schema(
            node_id="VLMCPicture",
            display_name="Picture Reference",
            category="VLM Conditioning/encode",
            description="A picture for Image Prompt: how much it counts, when, which part of it "
            "and how closely it is looked at. Several make a chain, one behind the other.",
            search_aliases=[
                "VLM",
                "reference image",
                "image prompt",
                "IPAdapter",
                "IP Adapter",
                "style image",
            ],
            inputs=[
                io.Image.Input(
                    "image", tooltip="A picture, or a batch: several pictures alike in all else."
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=MOST_STRENGTH,
                    step=0.05,
                    tooltip="0 = as if it were not there, bit for bit; 1 = the usual amount; up to "
                    "3. On Z-Image 1 is an alpha of 0.3. On Krea 2 and Qwen-Image 1 is the picture "
                    "in the prompt, less samples with and without it (twice the time).",
                ),
                io.Combo.Input(
                    "keep",
                    options=list(KEEPS),
                    default=KEEPS[0],
                    tooltip="What goes on: all; picture = its own tokens, with words that have not "
                    "read it; words = only what the words took from it; pooled = its tokens "
                    "averaged over a small grid of pool_size.",
                ),
                Pictures.Input(
                    "pictures",
                    optional=True,
                    tooltip="The pictures before this one, from another Picture Reference.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White (painted in the mask editor) = what counts. At any size of the "
                    "picture's shape. Load Image's mask of a picture without alpha means none. A "
                    "picture cut out of its background has it the other way: Invert Mask.",
                ),
                io.Combo.Input(
                    "mask_use",
                    options=list(MASK_USES),
                    default=MASK_USES[0],
                    optional=True,
                    tooltip="crop = only the box around what the mask marks is looked at; weight = "
                    "all of it is, and its tokens count as much as the mask is white there.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    tooltip="Where in the schedule it begins to count. 0 = from the start.",
                    **_percent(),
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    tooltip="Where in the schedule it stops to count. 1 = to the end.",
                    **_percent(),
                ),
                io.Int.Input(
                    "pool_size",
                    default=64,
                    min=1,
                    max=16384,
                    optional=True,
                    advanced=True,
                    tooltip="keep pooled: at most so many tokens of it. 256 keeps where things "
                    "are, 64 roughly, 9 the composition, 1 the mood.",
                ),
                max_pixels,
                io.Boolean.Input(
                    "tiles",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="on = its four quarters are looked at as well, each as closely as the "
                    "whole: small things are seen, at five times the tokens.",
                ),
            ],
            outputs=[
                Pictures.Output(
                    display_name="pictures",
                    tooltip="The chain, for Image Prompt or the next Picture Reference.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, start_percent: float = 0.0, end_percent: float = 1.0) -> bool | str:
        """Whether the picture counts at any time, when the workflow is queued."""
        if None in (start_percent, end_percent) or start_percent < end_percent:
            return True
        return (
            f"This picture counts from start_percent {start_percent:g} to end_percent "
            f"{end_percent:g} of the schedule, which is never. Set start_percent below end_percent."
        )

    @classmethod
    def execute(
        cls,
        image: Any,
        strength: float,
        keep: str,
        pictures: Any = None,
        mask: Any = None,
        mask_use: str = MASK_USES[0],
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        pool_size: int = 64,
        max_pixels: int = 0,
        tiles: bool = False,
    ) -> io.NodeOutput:
        """Adds the pictures of the batch."""
        before = need_pictures(pictures, "pictures on Picture Reference")
        batch = _batch(need_image(image, "image on Picture Reference"))
        added = tuple(
            PictureReference(
                one,
                strength,
                start_percent,
                end_percent,
                keep,
                pool_size,
                over,
                mask_use,
                max_pixels or None,
                tiles,
            )
            for one, over in zip(batch, _masks(mask, len(batch)), strict=True)
        )
        chain = before + added
        return shown(_line(chain, len(added)), chain)


def _percent() -> dict[str, Any]:
    return {"min": 0.0, "max": 1.0, "step": 0.01, "optional": True, "advanced": True}


def _batch(image: torch.Tensor) -> list[torch.Tensor]:
    """The pictures of a batch.

    Raises:
        ValueError: There are none.
    """
    pictures = list(image) if image.ndim == 4 else [image]
    if not pictures:
        raise ValueError("image on Picture Reference is an empty batch. Connect a picture.")
    return pictures


def _masks(mask: Any, count: int) -> list[torch.Tensor | None]:
    """A mask for each of so many pictures; None where nothing is masked.

    Raises:
        TypeError: No MASK.
        ValueError: Another number of masks than pictures.
    """
    if mask is None:
        return [None] * count
    if not isinstance(mask, torch.Tensor):
        raise TypeError(
            f"mask on Picture Reference takes MASK, this is {type(mask).__name__}. Connect Load "
            "Image or another node that gives MASK."
        )
    masks = list(mask) if mask.ndim == 3 else [mask]
    if len(masks) not in (1, count):
        raise ValueError(
            f"mask on Picture Reference is a batch of {len(masks)}, image one of {count}. Connect "
            "one mask for all, or one for each picture."
        )
    found = [None if _is_none(each) else each for each in masks]
    return found if len(found) == count else found * count


def _is_none(mask: torch.Tensor) -> bool:
    return tuple(mask.shape) == _NO_MASK and not bool(mask.any())


def _line(chain: tuple[PictureReference, ...], added: int) -> str:
    """What was added to the chain, and as what it will be seen."""
    picture = chain[-1]
    views = views_of(picture)
    height, width = views[0].image.shape[:2]
    number = f"picture {len(chain)}"
    if added > 1:
        number = f"pictures {len(chain) - added + 1} to {len(chain)}"
    line = f"{number}: {width} x {height} pixels"
    if picture.mask is not None:
        line += f", {'the box of its mask' if views[0].weights is None else 'weighed by its mask'}"
    if len(views) > 1:
        line += " and its quarters"
    line += f", strength {picture.strength:g}, keep {picture.keep}"
    if (picture.start, picture.end) != (0.0, 1.0):
        line += f", from {picture.start:g} to {picture.end:g}"
    return line


NODES = [Picture]
