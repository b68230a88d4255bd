"""Frame sampling, times and patches of videos against the families' video processors."""

import importlib.util
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vlm.pictures.media_files import read_picture, read_video
from vlm.pictures.patches import to_patches
from vlm.pictures.video import (
    QWEN2_VIDEO,
    QWEN3_VIDEO,
    check_rates,
    fit_video,
    group_times,
    prepare_video,
    read_video_rules,
    sample_frames,
)


def video_patches(frames, fps, rules):
    """A video the way the model sees it: its frames as patches, and their times."""
    seen = prepare_video(frames, fps, rules)
    return SimpleNamespace(
        patches=to_patches(seen.pixels, rules.pixel),
        seconds=seen.seconds,
        seconds_per_grid=seen.seconds_per_grid,
    )


needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="the families' video processors need torchvision, which is not installed",
)
RULES = {"qwen2_vl": QWEN2_VIDEO, "qwen3_vl": QWEN3_VIDEO}
SPEEDS = ((24, 2), (16, 2), (30, 1), (8, 8), (25, 50), (29.97, 3.3), (1, 2))
RATES = [(n, *speed) for n in (1, 2, 3, 4, 5, 7, 16, 33, 81, 250, 1999) for speed in SPEEDS]


def film(frames, height, width):
    """A smooth picture that moves, float [T, H, W, 3] in 0..1 on 8-bit levels."""
    t, y, x = np.mgrid[0:frames, 0:height, 0:width]
    values = np.stack([x * 200 // width, y * 200 // height, (x + y + 5 * t) % 200], -1)
    return torch.from_numpy(values.astype(np.uint8)).float() / 255


def qwen2_indices(n, fps, wanted):
    """Transcribed from `Qwen2VLVideoProcessor.sample_frames`."""
    most = math.floor(min(768, n) / 2) * 2
    count = min(max(n / fps * wanted, 4), most, n)
    count = math.floor(count / 2) * 2
    return torch.arange(0, n, n / count).int().tolist()


def qwen3_indices(n, fps, wanted):
    """Transcribed from `Qwen3VLVideoProcessor.sample_frames`."""
    count = min(max(int(n / fps * wanted), 4), 768, n)
    return np.linspace(0, n - 1, count).round().astype(int).tolist()


def test_the_frames_taken():
    for n, fps, wanted in RATES:
        if n > 1:  # theirs divides by zero for a single frame
            assert sample_frames(n, fps, QWEN2_VIDEO, wanted) == qwen2_indices(n, fps, wanted)[:n]
        assert sample_frames(n, fps, QWEN3_VIDEO, wanted) == qwen3_indices(n, fps, wanted)


def test_frames_are_valid_for_every_length():
    for rules in RULES.values():
        for n in range(1, 400):
            taken = sample_frames(n, 24, rules)
            assert taken == sorted(set(taken)) and taken[0] >= 0 and taken[-1] < n
            assert len(taken) >= min(n, 4) - n % 2
            assert len(taken) <= max(4, n / 12)


@needs_torchvision
@pytest.mark.parametrize("family", RULES)
def test_the_frames_the_processor_takes(family):
    from transformers.video_utils import VideoMetadata

    theirs = processor(family)
    for n, fps, wanted in RATES:
        if n == 1 and family == "qwen2_vl":
            continue  # theirs divides by zero
        metadata = VideoMetadata(total_num_frames=n, fps=fps)
        indices = np.asarray(theirs.sample_frames(metadata=metadata, fps=wanted)).tolist()
        assert sample_frames(n, fps, RULES[family], wanted) == indices[:n]


def processor(family):
    """The family's video processor with its published numbers."""
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    pixel = RULES[family].pixel
    size = {"shortest_edge": pixel.min_pixels, "longest_edge": pixel.max_pixels}
    made = Qwen3VLVideoProcessor if family == "qwen3_vl" else Qwen2VLVideoProcessor
    return made(size=size, image_mean=list(pixel.mean), image_std=list(pixel.std))


@needs_torchvision
@pytest.mark.parametrize("family", RULES)
@pytest.mark.parametrize(
    "shape", [(8, 120, 160), (9, 64, 200), (17, 300, 300), (4, 33, 90)], ids=str
)
def test_patches_of_the_processor(family, shape):
    """At most 2 of 255 levels (see test_images), nearly always none."""
    frames = film(*shape)
    theirs = processor(family)(
        videos=[(frames * 255).round().to(torch.uint8).permute(0, 3, 1, 2)],
        do_sample_frames=False,
        return_tensors="pt",
    )
    rules = RULES[family]
    ours = video_patches(list(frames), 2.0, all_frames(rules))
    assert ours.patches.grid == tuple(theirs["video_grid_thw"][0].tolist())
    levels = (
        (ours.patches.pixels - theirs["pixel_values_videos"]).abs() * min(rules.pixel.std) * 255
    )
    assert levels.max() <= 2.01 and levels.mean() < 0.3


def all_frames(rules):
    """Rules that take every frame of a video at 2 frames per second, odd numbers too."""
    return replace(rules, whole_groups=False)


@needs_torchvision
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11])
def test_times_of_the_processor(count):
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

    indices = np.sort(np.random.default_rng(count).choice(90, count, replace=False))
    theirs = Qwen3VLProcessor._calculate_timestamps(None, indices.tolist(), 24, 2)
    assert group_times(indices.tolist(), 24, 2) == pytest.approx(theirs)


# --- without torchvision


def smart_resize(frames, height, width, least, most, step=32):
    """Transcribed from the Qwen3-VL video processor of transformers 5."""
    if height < step or width < step:
        scale = max(step / height, step / width)
        height, width = int(height * scale), int(width * scale)
    tall, wide = round(height / step) * step, round(width / step) * step
    counted = round(frames / 2) * 2
    if counted * tall * wide > most:
        beta = math.sqrt(frames * height * width / most)
        tall = max(step, math.floor(height / beta / step) * step)
        wide = max(step, math.floor(width / beta / step) * step)
    elif counted * tall * wide < least:
        beta = math.sqrt(least / (frames * height * width))
        tall = math.ceil(height * beta / step) * step
        wide = math.ceil(width * beta / step) * step
    return tall, wide


def test_sizes_over_time():
    rng = np.random.default_rng(3)
    for _ in range(2000):
        frames, height, width = int(rng.integers(2, 60)), *rng.integers(1, 900, 2).tolist()
        least = int(np.exp(rng.uniform(5, 14)))
        most = int(least * np.exp(rng.uniform(0, 5)))
        if max(height, width) / min(height, width) > 100:
            continue
        ours = fit_video(height, width, frames, QWEN3_VIDEO, least, most, total=True)
        assert ours == smart_resize(frames, height, width, least, most)


def test_a_bound_given_is_per_frame_unless_total():
    for rules in RULES.values():
        each = fit_video(600, 500, 16, rules, max_pixels=40000)
        assert 20000 < each[0] * each[1] <= 40000
        assert fit_video(600, 500, 16, rules, max_pixels=16 * 40000, total=True) == each
        least = fit_video(60, 50, 16, rules, min_pixels=90000)
        assert 90000 <= least[0] * least[1] < 180000


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize(("count", "grid"), [(1, 1), (2, 1), (3, 2), (4, 2), (7, 4)])
def test_grid_and_times(rules, count, grid):
    seen = video_patches(film(count, 60, 80), 2.0, all_frames(rules))
    assert seen.patches.grid[0] == grid == len(seen.seconds) == seen.patches.frames
    assert seen.patches.pixels.shape[0] == math.prod(seen.patches.grid)
    assert seen.seconds_per_grid == pytest.approx(1.0)
    last = (count - 1) / 2
    expected = [min(i + 0.25, last) for i in range(grid)]
    assert seen.seconds == pytest.approx(expected)


def test_the_last_frame_fills_the_last_patch():
    frames = film(3, 64, 64)
    three = video_patches(frames, 2.0, all_frames(QWEN3_VIDEO))
    four = video_patches(torch.cat([frames, frames[-1:]]), 2.0, all_frames(QWEN3_VIDEO))
    assert torch.equal(three.patches.pixels, four.patches.pixels)


def test_a_group_holds_its_frames_in_order():
    black, white = torch.zeros(2, 64, 64, 3), torch.ones(2, 64, 64, 3)
    mixed = torch.stack([black[0], white[0], white[0], black[0]])
    seen = video_patches(mixed, 2.0, all_frames(QWEN3_VIDEO)).patches
    values = seen.pixels.reshape(2, -1, 3, 2, 16, 16)  # [group, patch, channel, frame, y, x]
    assert (values[0, :, :, 0] == -1).all() and (values[0, :, :, 1] == 1).all()
    assert (values[1, :, :, 0] == 1).all() and (values[1, :, :, 1] == -1).all()


def test_sampled_rate():
    seen = prepare_video(film(48, 40, 40), 24.0, QWEN2_VIDEO)
    assert len(seen.pixels) == 4 and seen.seconds_per_grid == pytest.approx(1.0)
    short = prepare_video(film(8, 40, 40), 24.0, QWEN2_VIDEO)  # the minimum of 4 frames: 12 fps
    assert len(short.pixels) == 4 and short.seconds_per_grid == pytest.approx(2 / 12)


def test_tensor_and_list_are_the_same_film():
    frames = film(9, 50, 60)
    pictures = [Image.fromarray((f * 255).round().byte().numpy()) for f in frames]
    a, b = (video_patches(f, 4.0, QWEN3_VIDEO) for f in (frames, pictures))
    assert torch.equal(a.patches.pixels, b.patches.pixels) and a.seconds == b.seconds


def test_a_single_frame_and_a_single_pixel():
    for rules in RULES.values():
        seen = video_patches(torch.ones(1, 1, 1, 3), 24.0, rules)
        assert seen.patches.frames == 1 and seen.seconds == (0.0,)
        assert torch.isfinite(seen.patches.pixels).all()


@pytest.mark.parametrize(
    ("frames", "fps", "words"),
    [
        ([], 24, "no frames"),
        (torch.zeros(0, 4, 4, 3), 24, "no frames"),
        (torch.zeros(4, 4, 4, 3), 0, "fps is 0"),
        (torch.zeros(4, 4, 4, 3), math.nan, "fps is nan"),
        ([torch.zeros(4, 4, 3), torch.zeros(4, 5, 3)], 24, "one size, these are 4x4, 5x4"),
        (torch.zeros(4, 10, 4000, 3), 24, "4000x10 pixels, 400 times as wide"),
        (torch.full((4, 4, 4, 3), math.nan), 24, "NaN or Inf"),
    ],
)
def test_bad_videos(frames, fps, words):
    with pytest.raises(ValueError, match=words):
        prepare_video(frames, fps, QWEN2_VIDEO)


def test_rules_of_files():
    assert read_video_rules(None, family="qwen2_5_vl") == QWEN2_VIDEO
    assert read_video_rules({}, {}, {"patch_size": 16}, "qwen3_vl") == QWEN3_VIDEO
    # a published Qwen2.5-VL folder: the picture's bounds do not hold for video
    image = {"patch_size": 14, "min_pixels": 3136, "max_pixels": 12845056}
    assert read_video_rules(None, image, {"patch_size": 14}, "qwen2_5_vl") == QWEN2_VIDEO
    named = {"video_processor_type": "Qwen3VLVideoProcessor", "min_frames": 8, "fps": None}
    named["size"] = {"longest_edge": 50000, "shortest_edge": 4000}
    rules = read_video_rules({"video_processor": named})
    assert rules.total and not rules.whole_groups and rules.fps == 2.0
    assert (rules.min_frames, rules.pixel.min_pixels, rules.pixel.max_pixels) == (8, 4000, 50000)


@pytest.mark.parametrize("rate", [0, -1, 1e-300, 5e-324, 1e300, float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["fps", "sample_fps"])
def test_rates_that_no_video_has(rate, which):
    rates = {"fps": 24.0, "sample_fps": 2.0} | {which: rate}
    with pytest.raises(ValueError, match=f"{which} is .*expected a number of frames per second"):
        check_rates(8, **rates)


def test_frames_larger_than_any_animation(tmp_path):
    """Pillow would keep several canvases of them; a still picture of that size is read."""
    Image.new("1", (5000, 4000)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match="frames of 5000 x 4000 pixels, at most 16777216 are read"):
        read_video(tmp_path / "large.png", None)
    assert read_picture(tmp_path / "large.png").size == (5000, 4000)
