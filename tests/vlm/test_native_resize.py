"""Pictures at the size that a native encode node gives them, and what of a picture is left."""

import math

import pytest
import torch

import vlm
from vlm.pictures.native_resize import (
    AREA,
    LANCZOS,
    NativeResize,
    joyimage_bucket,
    of_area,
    within_edge,
)
from vlm.targets import TARGETS

SHAPES = [(200, 330), (129, 95), (37, 211), (512, 768), (900, 300), (1024, 1024), (5, 900)]


def tensor(height, width, seed=0):
    noise = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, height, width, 3), generator=noise) / 255


@pytest.mark.parametrize("shape", SHAPES)
def test_an_area_keeps_the_shape(shape):
    height, width = of_area(1024 * 1024)(*shape)
    assert height * width == pytest.approx(1024 * 1024, rel=0.01)
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.02)


def test_an_area_in_whole_multiples_and_never_larger():
    assert of_area(1024 * 1024, 32)(512, 768) == (832, 1248)
    assert of_area(1344 * 768, 32, grow=False)(512, 768) == (512, 768)
    assert of_area(1344 * 768, 32, grow=False)(3000, 4000) == (864, 1184)
    assert of_area(1344 * 768, 32, grow=False)(3, 9) == (32, 32)


def test_a_longest_edge():
    size = within_edge(384)
    assert size(300, 384) == (300, 384)
    assert size(768, 512) == (384, 256)
    assert size(1, 4000) == (1, 384)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bucket_has_the_nearest_shape(shape):
    height, width = joyimage_bucket(*shape)
    assert height % 64 == width % 64 == 0 and height * width <= 1024 * 1024
    if 0.25 <= shape[0] / shape[1] <= 4:
        assert abs(math.log(height / width * shape[1] / shape[0])) < 0.05


def test_a_crop_takes_as_much_from_both_sides():
    cut = NativeResize(joyimage_bucket, AREA, crop=True)
    left, upper, right, lower = cut.box(1000, 1500)
    height, width = joyimage_bucket(1000, 1500)
    assert (left, upper) == (1500 - right, 1000 - lower)
    assert (right - left) / (lower - upper) == pytest.approx(width / height, rel=0.01)
    assert NativeResize(joyimage_bucket, AREA).box(1000, 1500) == (0, 0, 1500, 1000)


def test_a_picture_of_the_right_size_stays_as_it_is():
    picture = tensor(64, 64)
    assert NativeResize(of_area(64 * 64), AREA).apply(picture) is picture
    again = NativeResize(of_area(64 * 64), LANCZOS, always=True).apply(picture)
    assert torch.equal(again, (picture * 255).to(torch.uint8) / 255)  # 8 bits, cut off


def test_an_area_mean_is_a_mean():
    picture = tensor(64, 64)
    small = NativeResize(of_area(16 * 16), AREA).apply(picture)
    assert torch.allclose(small.mean(), picture.mean(), atol=1e-6)
    assert torch.allclose(small[0, 0, 0], picture[0, :4, :4].mean(dim=(0, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("family", "target", "grid"),
    [
        ("qwen2_5_vl", "qwen-image", (30, 45)),
        ("qwen2_5_vl", "qwen-image-edit-plus", (11, 17)),
        ("qwen3_vl", "krea2-edit", (10, 15)),
        ("qwen3_vl", "qwen-image-2.1", (26, 39)),
        ("qwen3_vl", "minimax-h3", (16, 24)),
        ("qwen3_vl", "mage-flow", (8, 12)),
        ("qwen3_vl", "boogu", (10, 15)),
        ("qwen3_vl", "joyimage", (26, 38)),
    ],
)
def test_the_grid_of_a_picture_at_defaults(tiny, picture, family, target, grid):
    """What a picture of 512 x 768 becomes: Qwen-Image's 1350 tokens were 486 before."""
    h = tiny(family, 2).encode("a", [picture(512, 768)], target=target)
    (found,) = h.token_map["grids"]
    assert (found["rows"], found["cols"]) == grid


def test_a_persons_bounds_come_after_the_nodes_size(tiny, picture):
    model = tiny("qwen2_5_vl", 2)
    for most in (512 * 512, 100 * 100):
        h = model.encode("a", [picture(512, 768)], target="qwen-image", max_pixels=most)
        (grid,) = h.token_map["grids"]
        assert most / 2 < grid["rows"] * grid["cols"] * 28 * 28 <= most
    h = tiny("qwen3_vl", 2).encode("a", [picture(512, 768)], target="joyimage", max_pixels=4096)
    assert h.token_map["role"].count("image") <= 4  # below the row's own fewest


def test_tiles_stay_within_the_nodes_area(tiny, picture):
    h = tiny("internvl", 2).encode("a", [picture(512, 768)], target="qwen-image", template="chat")
    assert len(set(h.token_map["tile"])) <= 1 + 1024 * 1024 // 448**2


def test_more_pictures_than_a_model_takes(tiny, picture):
    model = tiny("qwen2_5_vl", 2)
    four = [picture(64, 64)] * 4
    with pytest.raises(ValueError, match="Edit Plus takes at most 3 pictures, 4 were given"):
        model.encode("a", four, target="qwen-image-edit-plus")
    assert model.encode("a", four[:3], target="qwen-image-edit-plus").has_images
    for name, row in TARGETS.items():
        assert row.most_pictures == 0 or row.resize is not None, name


def test_a_video_for_minimax_h3(tiny, picture):
    with pytest.raises(ValueError, match="blocks of two frames.*single frames as `images`"):
        tiny("qwen3_vl", 2).encode("a", video=[picture(64, 64)] * 4, target="minimax-h3")


def test_joyimages_count_of_dropped_tokens(tiny):
    model = tiny("qwen3_vl", 2)
    h = model.encode("a red house", target="joyimage")
    assert h.dropped == 34 and vlm.select_layers(h).n == h.n - 34
    with pytest.raises(ValueError, match="leaves out the first 34 tokens, this prompt has"):
        model.encode("a", target="joyimage", template="raw")
