"""Video frames to patches: which frames are taken, at which size, and when they were.

Equal to the families' Hugging Face video processors but for the resize: those use torchvision,
we use PIL, and the two differ by at most one 8-bit step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .images import (
    QWEN2,
    QWEN3,
    PixelRules,
    budget,
    check_ratio,
    fit,
    fit_area,
    resize,
    rules_from,
)
from .picture_inputs import Picture, open_frames

SLOWEST, FASTEST = 1e-6, 1e6  # frames per second: from one in twelve days


@dataclass(frozen=True)
class VideoRules:
    """How a family samples and cuts videos: what video_preprocessor_config.json holds.

    Attributes:
        pixel: as for pictures; the pixel bounds are those of `total`.
        total: True where the bounds hold for all frames together (Qwen3-VL), False where they hold
            for each frame (Qwen2-VL, Qwen2.5-VL).
        whole_groups: True where the number of frames is cut to whole temporal patches.
        fps: frames per second that the model sees.
        min_frames, max_frames: bounds of the number of frames it sees.
    """

    pixel: PixelRules
    total: bool
    whole_groups: bool
    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768


# The per-frame bounds of the reference implementation (qwen-vl-utils) and of the processor class
QWEN2_VIDEO = VideoRules(
    replace(QWEN2, min_pixels=128 * 28 * 28, max_pixels=768 * 28 * 28), False, True
)
QWEN3_VIDEO = VideoRules(replace(QWEN3, min_pixels=4096, max_pixels=25165824), True, False)


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a video that the model sees.

    Attributes:
        pixels: uint8 `[H, W, 3]` each, all of one size.
        seconds: time of each temporal patch: the mean of its first and last frame's.
        seconds_per_grid: seconds from one temporal patch to the next.
    """

    pixels: tuple[np.ndarray, ...]
    seconds: tuple[float, ...]
    seconds_per_grid: float


def read_video_rules(
    video_config: dict | None,
    image_config: dict | None = None,
    vision_config: dict | None = None,
    family: str = "",
) -> VideoRules:
    """Reads how a checkpoint wants its videos.

    Args:
        video_config: content of video_preprocessor_config.json, or `video_processor` of the
            processor_config.json that transformers 5 writes. Qwen2-VL's and Qwen2.5-VL's
            published folders have none.
        image_config: content of preprocessor_config.json: how pictures are cut, for what the video
            file does not say. Its pixel bounds are for pictures and are not used.
        vision_config: `vision_config` of config.json.
        family: `model_type` of config.json, used where no file names a video processor.

    Returns:
        The rules; what no file says takes the family's published values.

    Raises:
        ValueError: the files contradict each other.
    """
    config = (video_config or {}).get("video_processor") or video_config or {}
    image = (image_config or {}).get("image_processor") or image_config or {}
    name = config.get("video_processor_type") or f"{image.get('processor_class')} {family}"
    default = QWEN3_VIDEO if "qwen3vl" in str(name).lower().replace("_", "") else QWEN2_VIDEO
    look = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    merged = {key: image[key] for key in look if image.get(key) is not None}
    merged |= {key: value for key, value in config.items() if value is not None}
    return replace(
        default,
        pixel=rules_from(merged, vision_config or {}, default.pixel),
        fps=merged.get("fps", default.fps),
        min_frames=merged.get("min_frames", default.min_frames),
        max_frames=merged.get("max_frames", default.max_frames),
    )


def sample_frames(
    n: int, fps: float, rules: VideoRules, sample_fps: float | None = None
) -> list[int]:
    """Which frames of a video the model sees.

    Source: `sample_frames` of the Qwen2-VL and Qwen3-VL video processors.

    Args:
        n: number of frames.
        fps: frames per second of the video.
        rules: the family's rules.
        sample_fps: frames per second that the model sees, None = the family's.

    Returns:
        Frame indices from 0, ascending, at least one.

    Raises:
        ValueError: no frames, or a rate that is not positive.
    """
    wanted = rules.fps if sample_fps is None else sample_fps
    check_rates(n, fps, wanted)
    least, most = rules.min_frames, min(rules.max_frames, n)
    if not rules.whole_groups:
        count = min(max(int(n / fps * wanted), least), most)
        return np.linspace(0, n - 1, count).round().astype(int).tolist()
    group = rules.pixel.temporal
    if n < group:
        return list(range(n))  # theirs divides by zero here
    bounded = min(max(n / fps * wanted, least), most // group * group)
    count = math.floor(bounded / group) * group
    # In float32, as the family's processor counts: an exact integer division differs now and then
    indices = torch.arange(0, n, n / count)[:count].int()
    return indices.clamp(max=n - 1).tolist()


def check_rates(n: int, fps: float, sample_fps: float) -> None:
    """Raises ValueError for a video without frames, or a rate that is not positive."""
    if n < 1:
        raise ValueError("The video has no frames. Connect at least one to the video input.")
    for rate, name in ((fps, "fps"), (sample_fps, "sample_fps")):
        if not SLOWEST <= rate <= FASTEST:
            raise ValueError(
                f"{name} is {rate}; expected a number of frames per second above 0, from "
                f"{SLOWEST:g} to {FASTEST:g}."
            )


def fit_video(
    height: int,
    width: int,
    count: int,
    rules: VideoRules,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    total: bool = False,
) -> tuple[int, int]:
    """The size of a video's frames (`smart_resize` of the Qwen2-VL and Qwen3-VL video processors).

    Args:
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        count: number of frames the model sees.
        rules: the family's rules.
        min_pixels: smallest area, None = the model's.
        max_pixels: largest area, None = the model's.
        total: True when the two bounds given are for all frames together, False for each frame.

    Returns:
        Height and width, multiples of patch x merge.

    Raises:
        ValueError: frames more than 200 times as long as wide, or an impossible budget.
    """
    pixel, step = rules.pixel, rules.pixel.patch * rules.pixel.merge
    count = max(count, pixel.temporal)  # a shorter video is filled up with its last frame
    times = (count if rules.total else 1) / (count if total else 1)
    least, most = (None if b is None else round(b * times) for b in (min_pixels, max_pixels))
    if not rules.total:
        return fit(height, width, pixel, least, most)
    if height < step or width < step:
        grow = max(step / height, step / width)
        height, width = int(height * grow), int(width * grow)
    check_ratio(height, width)
    least, most = budget(pixel, least, most)
    counted = round(count / pixel.temporal) * pixel.temporal
    return fit_area(height, width, count, counted, step, (max(least, 1), most))


def prepare_video(
    frames: Picture | Sequence[Picture],
    fps: float,
    rules: VideoRules,
    sample_fps: float | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    total: bool = False,
) -> Frames:
    """Samples and resizes a video.

    Args:
        frames: float `[T, H, W, C]` in 0..1, or a list of pictures (see `to_pictures`).
        fps: frames per second of `frames`.
        rules: the family's rules.
        sample_fps: frames per second that the model sees, None = the family's.
        min_pixels: smallest area after the resize, None = the model's.
        max_pixels: largest area, None = the model's.
        total: True when the two bounds given are for all frames together, False for each frame.

    Returns:
        The frames the model sees and their times.

    Raises:
        ValueError: no frames, frames of different sizes, a rate that is not positive, no picture.
    """
    n, pick = open_frames(frames)
    indices = sample_frames(n, fps, rules, sample_fps)
    pictures = pick(indices)
    width, height = pictures[0].size
    size = fit_video(height, width, len(pictures), rules, min_pixels, max_pixels, total)
    pixels = tuple(resize(picture, *size) for picture in pictures)
    group = rules.pixel.temporal  # n / fps seconds were cut into len(indices) steps
    return Frames(pixels, group_times(indices, fps, group), group * n / fps / len(indices))


def group_times(indices: Sequence[int], fps: float, group: int) -> tuple[float, ...]:
    """Seconds of each temporal patch: the mean of its first and its last frame's.

    Source: the Qwen3-VL processor, which writes them into the prompt.

    Args:
        indices: frame indices from 0; the last one is repeated to fill the last patch.
        fps: frames per second that the indices count.
        group: frames per temporal patch.
    """
    times = [index / fps for index in indices]
    times += times[-1:] * (-len(times) % group)
    return tuple((times[i] + times[i + group - 1]) / 2 for i in range(0, len(times), group))
