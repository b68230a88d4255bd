"""Pictures and videos of a prompt, at the size the model sees them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files.json_file import read_json
from ..quoted import told
from .images import PixelRules, fit, read_rules, resize, to_pictures
from .native_resize import NativeResize
from .patches import Patches, to_patches
from .preprocessor_values import clean
from .video import VideoRules, prepare_video, read_video_rules


class Preprocessor(ABC):
    """How a model wants its pictures and videos."""

    @abstractmethod
    def prepare_images(
        self, images: Any, min_pixels: int | None, max_pixels: int | None
    ) -> list[VisionInput]:
        """Resizes the pictures of a prompt.

        Args:
            images: Whatever `images.to_pictures` takes.
            min_pixels: Fewest pixels; None = the model's.
            max_pixels: Most pixels; None = the model's.

        Returns:
            One per picture, in order.

        Raises:
            ValueError: A picture that cannot be read, or one of a shape the model does not take.
            TypeError: Something that is not a picture.
        """

    def prepare_resized(
        self, images: Any, native: NativeResize, min_pixels: int, max_pixels: int
    ) -> list[VisionInput]:
        """Resizes the pictures of a prompt as a native encode node does, then for the model.

        A model whose pictures come in tiles or in one size takes the node's area as its bound.

        Args:
            images: As `prepare_images`.
            native: What the node does.
            min_pixels: Fewest pixels after that.
            max_pixels: Most pixels after that.

        Raises:
            ValueError: As `prepare_images`.
            TypeError: As `prepare_images`.
        """
        pictures = to_pictures(images)
        areas = [prod(native.size(picture.height, picture.width)) for picture in pictures]
        return self.prepare_images(pictures, min_pixels, min(max_pixels, max(areas, default=1)))

    def prepare_video(
        self,
        video: Any,
        fps: float,
        sample_fps: float | None,
        min_pixels: int | None,
        max_pixels: int | None,
    ) -> VisionInput:
        """Samples and resizes the frames of a video.

        Args:
            video: Frames, as `images.to_pictures` takes them.
            fps: Frames per second of `video`.
            sample_fps: Frames per second that the model sees; None = the model's.
            min_pixels: Fewest pixels; None = the model's.
            max_pixels: Most pixels; None = the model's.

        Raises:
            ValueError: No frame, frames of different sizes, a rate that is not positive; a model
                that takes no videos, as this method has it until it is overridden.
            TypeError: Something that is not a picture.
        """
        raise ValueError("This model takes pictures, not videos. Connect single frames as images.")


@dataclass(frozen=True, eq=False)
class VisionInput:
    """A picture or a video, resized; its patches are made only when the vision tower runs.

    Attributes:
        pixels: uint8 [H, W, 3] each: one for a picture, more for a video.
        rules: How they become patches.
        frames: Grid steps in time.
        rows: Grid rows after the merge.
        cols: Grid columns after the merge.
        is_video: A video, even of a single frame.
        seconds: Time of each grid step of a video, in seconds.
        seconds_per_grid: Seconds from one grid step to the next.
        time_step: Temporal positions from one grid step to the next.
        muted: Its tokens stand in the sequence, but the model does not see it.
    """

    pixels: tuple[np.ndarray, ...]
    rules: PixelRules
    frames: int
    rows: int
    cols: int
    is_video: bool = False
    seconds: tuple[float, ...] = ()
    seconds_per_grid: float = 1.0
    time_step: float = 1.0
    muted: bool = False

    @property
    def grid(self) -> dict[str, int]:
        """Its tokens' grid, as the token map has it."""
        return {"frames": self.frames, "rows": self.rows, "cols": self.cols}

    def places(self, frame: int) -> Iterator[tuple[int, int, int]]:
        """Tile, row and column of each of a frame's tokens, in their order."""
        return ((0, row, col) for row in range(self.rows) for col in range(self.cols))

    @property
    def num_patches(self) -> int:
        """P, patches before the merge that the vision tower takes at once."""
        return self.frames * self.rows * self.cols * self.rules.merge**2

    def patches(self) -> Patches:
        """Patches [P, C * T * p * p] for the vision tower."""
        return to_patches(self.pixels * (1 if self.is_video else self.rules.temporal), self.rules)

    def digest(self) -> bytes:
        """Of what the vision tower sees and where it stands in time."""
        facts = (self.is_video, self.frames, self.rows, self.cols, self.seconds, self.time_step)
        if self.muted:
            return hashlib.sha256(repr((*facts, "muted")).encode()).digest()
        digest = hashlib.sha256(repr(facts).encode())
        for frame in self.pixels:
            digest.update(frame.tobytes())
        return digest.digest()


@dataclass(frozen=True)
class PatchPreprocessor(Preprocessor):
    """Pictures and videos in whole tokens of any number, as the Qwen-VL families take them.

    Attributes:
        image: For pictures.
        video: For videos.
    """

    image: PixelRules
    video: VideoRules

    def prepare_images(
        self, images: Any, min_pixels: int | None, max_pixels: int | None
    ) -> list[VisionInput]:
        """Resizes the pictures of a prompt, each by itself; see `Look.see_images`."""
        return [
            self._prepare(picture, picture.size[::-1], min_pixels, max_pixels)
            for picture in to_pictures(images)
        ]

    def prepare_resized(
        self, images: Any, native: NativeResize, min_pixels: int, max_pixels: int
    ) -> list[VisionInput]:
        """Takes the node's size; one antialiased resize goes there. See `Preprocessor`."""
        seen = []
        for picture in to_pictures(images):
            height, width = picture.height, picture.width
            part = picture.crop(native.box(height, width)) if native.crop else picture
            size = native.size(height, width)
            seen.append(self._prepare(part, size, min_pixels, max_pixels))
        return seen

    def _prepare(
        self,
        picture: Image.Image,
        size: tuple[int, int],
        min_pixels: int | None,
        max_pixels: int | None,
    ) -> VisionInput:
        """A picture at about that height and width, in whole tokens within the bounds."""
        step = self.image.patch * self.image.merge
        height, width = fit(*size, self.image, min_pixels, max_pixels)
        pixels = (resize(picture, height, width),)
        return VisionInput(pixels, self.image, 1, height // step, width // step)

    def prepare_video(
        self,
        video: Any,
        fps: float,
        sample_fps: float | None,
        min_pixels: int | None,
        max_pixels: int | None,
    ) -> VisionInput:
        """Samples and resizes the frames of a video; see `Look.see_video`."""
        step = self.video.pixel.patch * self.video.pixel.merge
        frames = prepare_video(video, fps, self.video, sample_fps, min_pixels, max_pixels)
        height, width = frames.pixels[0].shape[:2]
        return VisionInput(
            frames.pixels,
            self.video.pixel,
            len(frames.seconds),
            height // step,
            width // step,
            is_video=True,
            seconds=frames.seconds,
            seconds_per_grid=frames.seconds_per_grid,
        )


def read_patch_preprocessor(folder: Path, config: dict) -> PatchPreprocessor:
    """Reads a model folder's preprocessor files.

    Args:
        folder: In Hugging Face layout. A missing file means the family's published values.
        config: Its config.json.

    Raises:
        ValueError: A file that is not JSON, or contradicts config.json.
    """
    image, video = read_preprocessors(folder)
    vision = config.get("vision_config") or {}
    family = config.get("model_type", "")
    return PatchPreprocessor(
        read_rules(image, vision), read_video_rules(video, image, vision, family)
    )


def read_preprocessors(folder: Path) -> tuple[dict, dict]:
    """What a model folder's files say of pictures and of videos; empty where a file is missing.

    Raises:
        ValueError: A file that is not JSON.
    """
    both = _read_json(folder / "processor_config.json")
    image = both.get("image_processor") or _read_json(folder / "preprocessor_config.json")
    video = both.get("video_processor") or _read_json(folder / "video_preprocessor_config.json")
    return image, video


def _read_json(file: Path) -> dict:
    if not file.is_file():
        return {}
    content = clean(read_json(file), file.name)
    for name in ("image_processor", "video_processor"):
        if content.get(name) and not isinstance(content[name], dict):
            raise ValueError(
                f"{file.name} has {name} {told(content[name])}, expected a mapping. Download the "
                "file again."
            )
    return content
