"""Pictures for a native text encoder: its rules, and ComfyUI's own preprocessing as an option."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..families import Family, qwen3_vl
from ..pictures.images import PixelRules
from ..pictures.native_resize import BILINEAR, NativeResize
from ..pictures.patches import Patches
from ..pictures.picture_inputs import to_pictures
from ..pictures.preprocessor import PatchPreprocessor, VisionInput
from ..weights.single_file import published_preprocessor

# (picture [1, H, W, 3], rules, fewest and most pixels or None, way of resizing) to patches [P, ...]
# and grid [1, 3]
MakePatches = Callable[
    [torch.Tensor, PixelRules, int | None, int | None, str], tuple[torch.Tensor, torch.Tensor]
]


@dataclass(frozen=True, eq=False)
class PatchedInput(VisionInput):
    """A picture that came as patches: `pixels` holds them, float32 [P, C * T * p * p]."""

    def patches(self) -> Patches:
        """The patches, as they came."""
        merge = self.rules.merge
        grid = (self.frames, self.rows * merge, self.cols * merge)
        return Patches(torch.from_numpy(self.pixels[0]), None, grid, merge)


@dataclass(frozen=True)
class NativePreprocessor(PatchPreprocessor):
    """Has ComfyUI resize the pictures.

    Its resize is bilinear without antialiasing and keeps all bits of the picture; the families'
    own is bicubic with antialiasing, of 8-bit pictures.

    Attributes:
        make_patches: ComfyUI's preprocessing.
    """

    make_patches: MakePatches

    def prepare_images(
        self, images: Any, min_pixels: int | None, max_pixels: int | None
    ) -> list[VisionInput]:
        """Has each picture resized; see `Look.see_images`."""
        to_pictures(images)  # says what is wrong with a picture
        bounds = min_pixels, max_pixels
        return [self._see(picture, *bounds, BILINEAR) for picture in _pictures(images)]

    def prepare_resized(
        self, images: Any, native: NativeResize, min_pixels: int, max_pixels: int
    ) -> list[VisionInput]:
        """Does what the node does, then what the text encoder behind it does."""
        to_pictures(images)
        bounds, way = (min_pixels, max_pixels), native.encoder_way
        return [self._see(native.apply(picture), *bounds, way) for picture in _pictures(images)]

    def _see(
        self, picture: torch.Tensor, min_pixels: int | None, max_pixels: int | None, way: str
    ) -> VisionInput:
        pixels, grid = self.make_patches(picture, self.image, min_pixels, max_pixels, way)
        _, rows, cols = (int(side) for side in grid[0])
        merge = self.image.merge
        patches = pixels.to("cpu", torch.float32).contiguous().numpy()
        return PatchedInput((patches,), self.image, 1, rows // merge, cols // merge)


def native_preprocessor(
    visual: torch.nn.Module | None, family: Family, make_patches: MakePatches | None = None
) -> PatchPreprocessor | None:
    """How a native vision tower wants its pictures: the published preprocessing.

    Args:
        visual: The tower; None for a model without one.
        family: Its family.
        make_patches: ComfyUI's preprocessing, to be used instead for pictures.
    """
    if visual is None:
        return None
    sizes = {
        "patch_size": visual.patch_embed.patch_size,
        "temporal_patch_size": visual.patch_embed.temporal_patch_size,
        "spatial_merge_size": visual.spatial_merge_size,
    }
    # Qwen3.5 sees as Qwen3-VL does, of which single files are known.
    known = family if family.single_file is not None else qwen3_vl.FAMILY
    rules = published_preprocessor({"vision_config": sizes}, known)
    if make_patches is None:
        return rules
    return NativePreprocessor(rules.image, rules.video, make_patches)


def _pictures(images: Any) -> list[torch.Tensor]:
    """Float tensors [1, H, W, 3] of ComfyUI's IMAGE, each picture of a batch on its own."""
    if images is None:
        return []
    if isinstance(images, torch.Tensor):
        batch = images if images.ndim == 4 else images[None]
        return list(batch[..., :3].float().split(1))
    if isinstance(images, list | tuple):
        return [picture for image in images for picture in _pictures(image)]
    raise TypeError(
        f"ComfyUI's preprocessing takes IMAGE, this is a {type(images).__name__}. Connect Load "
        "Image, or set preprocessing to huggingface on VLM From CLIP."
    )
