"""M-RoPE positions against each family's own get_rope_index, and whole videos through the model."""

import pytest
import torch
from rounding import rounding

from vlm.prompts.positions import VisionBlock, mrope_positions

pytestmark = pytest.mark.slow

TEXT = "a red house by the river"


def positions(h):
    return mrope_positions(len(h.prompt.ids), h.prompt.blocks)


def rope_index(hf, h, seconds=None):
    """The family's own positions [3, N] of the same ids."""
    ids = torch.tensor([h.prompt.ids])
    grids = {"image": [], "video": []}
    for visual in h.prompt.vision_inputs:
        merge = visual.rules.merge
        grid = [visual.frames, visual.rows * merge, visual.cols * merge]
        grids["video" if visual.is_video else "image"].append(grid)
    inputs = {f"{kind}_grid_thw": torch.tensor(grid) for kind, grid in grids.items() if grid}
    if seconds is not None:
        inputs["second_per_grid_ts"] = torch.tensor([seconds])
    found, _ = hf.model.model.get_rope_index(ids, **hf.types(ids), **inputs)
    return found[:, 0]


# ---- pictures


@pytest.mark.parametrize("template", ["chat", "raw", "qwen-image-2.1", "krea2"])
@pytest.mark.parametrize(
    "sizes", [[(90, 150)], [(64, 300), (200, 60), (96, 96)]], ids=["one", "three"]
)
def test_pictures(v, hf, picture, sizes, template):
    images = [picture(*size, seed) for seed, size in enumerate(sizes)]
    h = v.encode(TEXT, images, template=template)
    assert len(h.prompt.blocks) == len(sizes)
    assert torch.equal(positions(h), rope_index(hf, h))


def test_pictures_first_last_and_alone(v, hf, picture):
    for text in (TEXT, ""):
        h = v.encode(text, [picture(90, 150)], template="raw")
        assert torch.equal(positions(h), rope_index(hf, h))


def test_text_counts_up_on_all_axes():
    found = mrope_positions(7, [])
    assert found.dtype == torch.int64
    assert found.tolist() == [list(range(7))] * 3


def test_padding_goes_on_counting(tiny, picture):
    h = tiny("qwen3_vl", 2).encode(TEXT, [picture(64, 64)], target="flux2-klein-4b")
    found = positions(h)
    real = h.prompt.real
    assert torch.equal(found[:, real:], torch.arange(512 - real).expand(3, -1) + found.max() + 1
                       - (512 - real))  # fmt: skip
    assert torch.equal(found[0, real - 1] + 1, found[0, real])


def test_blocks_written_out():
    found = mrope_positions(2 + 6 + 1 + 4 + 1, [VisionBlock(2, 1, 2, 3), VisionBlock(9, 1, 1, 4)])
    assert found.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 6, 6, 6, 10],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 6, 6, 6, 10],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    ]


def test_a_block_longer_in_time_than_in_space():
    found = mrope_positions(9, [VisionBlock(1, 6, 1, 1, 2.5), ])  # fmt: skip
    assert found.tolist() == [
        [0, 1, 3, 6, 8, 11, 13, 14, 15],
        [0, 1, 1, 1, 1, 1, 1, 14, 15],
        [0, 1, 1, 1, 1, 1, 1, 14, 15],
    ]


# ---- videos

# frames, their rate, height, width
CLIPS = {
    "short": (4, 2.0, 90, 150),
    "a second a step": (8, 2.0, 200, 300),
    "long and small": (40, 4.0, 64, 64),
    "24 a second": (50, 24.0, 90, 150),
    "odd rate": (30, 7.0, 90, 150),
    "one frame": (1, 24.0, 90, 150),
    "three frames": (3, 1.0, 90, 150),
}


def clip(picture, name):
    count, fps, height, width = CLIPS[name]
    return {"video": [picture(height, width, seed) for seed in range(count)], "fps": fps}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("images", [0, 2])
def test_videos(v, hf, picture, name, images):
    """As the family's own, which comes in two forms.

    The older one cuts the seconds of a step to whole ones, and like the Qwen2-VL report goes on
    above the largest position of the video; in the newer one the text behind a video longer in
    time than in space goes on from the larger side of the frame, inside the video's positions.
    """
    stills = [picture(90, 150), picture(64, 200)][:images]
    h = v.encode(TEXT, stills, template="chat", max_pixels=90 * 150, **clip(picture, name))
    ours = positions(h)
    video = h.prompt.vision_inputs[-1]
    seconds = None
    if v.family.model_type == "qwen2_5_vl":
        seconds = video.seconds_per_grid
        assert video.time_step == pytest.approx(seconds * 2)  # tokens_per_second of the tiny model
    theirs = rope_index(hf, h, seconds)
    block = h.prompt.blocks[-1]
    end = block.start + block.length
    rest = torch.arange(h.n - end).expand(3, -1)
    assert torch.equal(ours[:, end:], rest + ours[:, :end].max() + 1)
    inside = ours[0, block.start] + max(block.rows, block.cols)
    newer = torch.cat([ours[:, :end], rest + inside], 1)
    older = ours if seconds is None else mrope_positions(h.n, whole_seconds(h, seconds))
    assert any(torch.equal(theirs, form) for form in (newer, older))


def whole_seconds(h, seconds):
    """The blocks of a prompt with the seconds of a video's step cut to whole ones."""
    return [b if b.frames == 1 else VisionBlock(b.start, b.frames, b.rows, b.cols,
                                                int(seconds) * 2.0)
            for b in h.prompt.blocks]  # fmt: skip


@pytest.mark.parametrize("fps", [0.5, 1.0, 3.0, 5.0, 7.0, 10.0, 12.5, 23.976, 29.97, 30.0, 60.0])
@pytest.mark.parametrize("family", ["qwen2_5_vl"], indirect=True)
def test_time_steps_in_seconds(v, hf, picture, fps):
    """Qwen2.5-VL: temporal positions are whole tokens of absolute time."""
    frames = [picture(64, 64, seed) for seed in range(24)]
    h = v.encode(TEXT, video=frames, fps=fps)
    video, block = h.prompt.vision_inputs[0], h.prompt.blocks[0]
    assert len(video.seconds) == video.frames
    at = slice(block.start, block.start + block.length)
    ours = positions(h)[0, at].reshape(video.frames, -1)
    steps = [int(video.seconds_per_grid * 2 * i + 1e-9) for i in range(video.frames)]
    assert (ours[:, 0] - block.start).tolist() == steps
    theirs = rope_index(hf, h, video.seconds_per_grid)[0, at].reshape(video.frames, -1)
    older = mrope_positions(h.n, whole_seconds(h, video.seconds_per_grid))[0, at]
    assert torch.equal(ours, theirs) or torch.equal(older.reshape(video.frames, -1), theirs)


@pytest.mark.parametrize("name", CLIPS)
def test_the_tokens_of_a_video(v, hf, picture, name):
    """Ids as the family's processor writes them: one block, or one per time stamp."""
    frames = clip(picture, name)
    h = v.encode(TEXT, target="z-image", **frames)
    video = h.prompt.vision_inputs[0]
    pads = "<|video_pad|>" * (video.rows * video.cols)
    if v.family.vision.frames_apart:
        indices = indices_of(v, len(frames["video"]), frames["fps"])
        times = hf.processor._calculate_timestamps(indices, frames["fps"], 2)
        assert list(video.seconds) == pytest.approx(times)
        inside = "".join(
            f"<{time:.1f} seconds><|vision_start|>{pads}<|vision_end|>" for time in times
        )
    else:
        inside = f"<|vision_start|>{pads * video.frames}<|vision_end|>"
    text = f"<|im_start|>user\n{inside}{TEXT}<|im_end|>\n<|im_start|>assistant\n"
    assert list(h.prompt.ids) == hf.tokenizer(text)["input_ids"]


def indices_of(model, count, fps):
    from vlm.pictures.video import sample_frames

    return list(sample_frames(count, fps, model.preprocessor.video))


@pytest.mark.parametrize("images", [0, 1])
def test_a_video_through_the_model(v, hf, picture, err, images):
    """Hidden states equal a plain forward's with the same patches, positions given."""
    stills = [picture(90, 150)][:images]
    frames = [picture(90, 150, seed) for seed in range(6)]
    h = v.encode(TEXT, stills, video=frames, fps=2.0, max_pixels=90 * 150)
    ids = torch.tensor([h.prompt.ids])
    patches = [visual.patches() for visual in h.prompt.vision_inputs]
    inputs = {
        "input_ids": ids,
        "pixel_values_videos": patches[-1].pixels,
        "video_grid_thw": torch.tensor([patches[-1].grid]),
        "position_ids": positions(h)[:, None],
        **hf.types(ids),
    }
    if images:
        grid = torch.tensor([patches[0].grid])
        inputs |= {"pixel_values": patches[0].pixels, "image_grid_thw": grid}
    assert patches[-1].grid[0] == 3
    streams, normed = hf.streams(**inputs)
    for k in (0, 1, 2, 3, 12, 36):
        assert err(h.layer(k, final_norm=False), streams[k]) <= rounding(k), f"layer {k}"
    assert err(h.layer(-1), normed) <= rounding()
