"""Pictures and videos of a prompt: every kind, those that cannot be, and their place in the map."""

import numpy as np
import pytest
import torch
from rounding import rounding

# ---- pictures


def test_pictures_of_every_kind(tiny, picture):
    model = tiny("qwen3_vl", 2)
    colour = picture(64, 80)
    kinds = {
        "1x1": colour.resize((1, 1)),
        "grey": colour.convert("L"),
        "rgba": colour.convert("RGBA"),
        "float": torch.rand(64, 80, 3),
        "one channel": torch.rand(64, 80, 1),
        "alpha": torch.rand(64, 80, 4),
    }
    for image in kinds.values():
        h = model.encode("x", [image], depth=2)
        assert torch.isfinite(h.layer(2)).all()
        assert len(h.token_map["grids"]) == 1
    mixed = model.encode("x", [*kinds.values(), torch.rand(3, 64, 64, 3)])
    assert len(mixed.token_map["grids"]) == 9
    assert len(model.encode("x", torch.rand(2, 64, 64, 3)).token_map["grids"]) == 2
    assert model.encode("x", colour).token_map["grids"]  # a single picture needs no list
    assert model.encode("x", []).prompt.ids == model.encode("x").prompt.ids


def test_a_tensor_means_the_same_picture(tiny, picture, err):
    model = tiny("qwen3_vl", 2)
    image = picture(64, 80)
    tensor = torch.from_numpy(np.asarray(image).astype(np.float32) / 255)
    one, other = model.encode("x", [image]), model.encode("x", tensor)
    assert one.prompt.prefix_key == other.prompt.prefix_key
    assert err(other.layer(2), one.layer(2)) <= rounding(2)  # the second reuses the first


def test_pictures_that_cannot_be(tiny, picture):
    model = tiny("qwen3_vl", 2)
    with pytest.raises(ValueError, match="800 times as wide"):
        model.encode("x", [picture(10, 8000)])
    with pytest.raises(ValueError, match="NaN or Inf"):
        model.encode("x", torch.full((8, 8, 3), float("nan")))
    for shape in [(8,), (1, 1, 8, 8, 3), (8, 8, 2)]:
        with pytest.raises(ValueError, match="not a picture"):
            model.encode("x", torch.rand(*shape))
    with pytest.raises(FileNotFoundError, match="no picture house.png"):
        model.encode("x", ["house.png"])


def test_the_pixel_budget(tiny, picture):
    model = tiny("qwen3_vl", 2)
    image = picture(600, 900)

    def tokens(**kwargs):
        grid = model.encode("x", [image], **kwargs).token_map["grids"][0]
        return grid["rows"] * grid["cols"]

    assert tokens(max_pixels=64 * 1024) <= 64
    assert tokens(min_pixels=2000 * 1024, max_pixels=4000 * 1024) >= 2000
    assert tokens(template="x2i") <= 224 * 224 / 1024
    assert tokens(template="x2i", max_pixels=200 * 1024) > 100
    with pytest.raises(ValueError, match="pixel budget"):
        tokens(min_pixels=200000, max_pixels=1000)


# ---- video


def test_the_map_of_a_video(v, picture):
    frames = [picture(64, 96, seed) for seed in range(8)]
    h = v.encode("a clip", [picture(90, 150)], video=frames, fps=4.0)
    grids = h.token_map["grids"]
    assert [grid["image"] for grid in grids] == [0, 1]
    video = grids[1]
    assert video["frames"] == 2
    at = [i for i, number in enumerate(h.token_map["image"])
          if number == 1 and h.token_map["role"][i] == "image"]  # fmt: skip
    size = video["rows"] * video["cols"]
    assert len(at) == 2 * size
    assert [h.token_map["frame"][i] for i in at] == [0] * size + [1] * size
    assert [h.token_map["col"][i] for i in at] == list(range(video["cols"])) * 2 * video["rows"]
    assert {h.prompt.ids[i] for i in at} == {v.tokenizer.id_of("<|video_pad|>")}
    markers = [i for i, role in enumerate(h.token_map["role"]) if role == "vision_marker"]
    of_the_video = [h.token_map["image"][i] for i in markers].count(1)
    assert of_the_video == (4 if v.family.vision.frames_apart else 2)
    outside = [i for i, role in enumerate(h.token_map["role"]) if role != "image"]
    for key in ("frame", "tile", "row", "col"):
        assert {h.token_map[key][i] for i in outside} == {0}


def test_the_lines_with_a_videos_times(tiny, picture):
    model = tiny("qwen3_vl", 2)
    frames = [picture(64, 64, seed) for seed in range(8)]
    h = model.encode("a clip", video=frames, fps=2.0, target="z-image")
    outside = [one for one, role in zip(h.prompt.ids, h.token_map["role"], strict=True)
               if role != "image"]  # fmt: skip
    block = "<|vision_start|><|vision_end|>"
    times = [0.25, 1.25, 2.25, 3.25]
    lines = "".join(f"<{time:.1f} seconds>{block}" for time in times)
    assert model.tokenizer.text_of(outside) == (
        f"<|im_start|>user\n{lines}a clip<|im_end|>\n<|im_start|>assistant\n"
    )
    assert h.prompt.vision_inputs[0].seconds == tuple(times)
    assert h.prompt.prefix == h.token_map["role"].index("text")


def test_videos_that_cannot_be(tiny, picture):
    model = tiny("qwen3_vl", 2)
    for fps in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="fps"):
            model.encode("x", video=[picture(64, 64)] * 2, fps=fps)
    with pytest.raises(ValueError, match="no frames|empty"):
        model.encode("x", video=[])
