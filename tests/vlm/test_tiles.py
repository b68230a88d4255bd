"""Tiles and thumbnails: grids, pixels and frames beside Hugging Face's own processors."""

import json

import numpy as np
import pytest
import torch
from hugging_face import pil_module, pil_processor
from PIL import Image

from vlm.families.internvl import FAMILY
from vlm.pictures.tiles import (
    MOST_TILES,
    THUMBNAIL,
    TILE,
    TilePreprocessor,
    best_grid,
    read_tile_preprocessor,
)
from vlm.tiny.internvl import TINY

AREA = TILE**2
# Theirs takes a picture one pixel high for one with its channels first.
SIZES = [(90, 150), (448, 448), (2, 2000), (2000, 1), (500, 400), (1080, 1920), (3000, 300)]


@pytest.fixture
def look(tmp_path):
    for name, content in TINY.files.items():
        (tmp_path / name).write_text(json.dumps(content))
    return read_tile_preprocessor(tmp_path, {})


@pytest.fixture
def theirs(tmp_path, look):
    """Their processor of the same files: `theirs(pictures, max_patches=...)`."""
    processor = pil_processor(tmp_path)
    pictures = {"crop_to_patches": True, "return_tensors": "pt"}
    return lambda images, **settings: processor(images, **pictures, **settings)


def stacked(vision_inputs):
    return torch.cat([visual.patches().pixels for visual in vision_inputs])


# --- grids


@pytest.mark.parametrize(("least", "most"), [(1, 10), (1, 12), (1, 1), (3, 7), (1, 40)])
def test_the_grid_is_the_published_rules(least, most):
    module = pil_module("got_ocr2")
    sides = [1, 7, 100, 224, 447, 448, 449, 640, 896, 1000, 1344, 2000]
    for height in sides:
        for width in sides:
            cols, rows = module.get_optimal_tiled_canvas((height, width), (448, 448), least, most)
            assert best_grid(height, width, 448, least, most) == (rows, cols), (height, width)


def test_a_budget_beyond_every_picture_ends():
    assert best_grid(1000, 1500, 448, 1, 10**26) == best_grid(1000, 1500, 448, 1, 1000)


@pytest.mark.parametrize(
    ("least", "most", "tiles"),
    [
        (None, None, 10),
        (None, AREA * 4, 4),
        (None, AREA * 5 - 1, 4),
        (None, AREA, 1),
        (None, AREA - 1, 1),
        (None, 1, 1),
        (AREA * 20, None, 20),
        (AREA * 3 + 1, AREA * 4, 4),
        (300 * 300, 300 * 300, 1),
    ],
)
def test_pixel_bounds_are_bounds_of_the_number_of_tiles(look, picture, least, most, tiles):
    (visual,) = look.prepare_images(picture(1, 2000), least, most)
    assert (visual.tile_rows, visual.tile_cols) == (1, tiles)
    assert len(visual.pixels) == tiles + (tiles > 1)
    assert (visual.rows, visual.cols) == (16, 16 * tiles)


def test_at_most_the_ten_tiles_of_the_paper(look, theirs, picture):
    wide = picture(300, 3000)
    assert len(theirs([wide], max_patches=12)["pixel_values"]) == 11
    assert len(look.prepare_images(wide, None, None)[0].pixels) == MOST_TILES + 1


# --- pixels


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_their_processors(look, theirs, picture, size):
    image = picture(*size)
    vision_inputs = look.prepare_images(image, None, None)
    want = theirs([image], max_patches=MOST_TILES)["pixel_values"]
    assert torch.equal(stacked(vision_inputs), want)


def test_pixels_of_several_pictures(look, theirs, picture):
    images = [picture(90, 150), picture(400, 300, 1), picture(64, 64, 2)]
    want = theirs(images, max_patches=4)
    vision_inputs = look.prepare_images(images, None, 4 * AREA)
    assert [len(visual.pixels) for visual in vision_inputs] == list(want["num_patches"])
    assert torch.equal(stacked(vision_inputs), want["pixel_values"])


def test_below_one_tile_the_picture_is_made_small_first(look, picture):
    """X2I's `Image.resize((128, 128))`, then InternVL's own preparation."""
    image = picture(300, 500)
    (visual,) = look.prepare_images(image, None, 128 * 128)
    want = image.resize((128, 128)).resize((448, 448))
    assert len(visual.pixels) == 1
    assert np.array_equal(visual.pixels[0], np.asarray(want))


def test_where_tiles_and_their_tokens_stand(look):
    image = Image.new("RGB", (2 * TILE, TILE))
    image.paste((255, 0, 0), (TILE, 0, 2 * TILE, TILE))  # the right half
    (visual,) = look.prepare_images(image, None, 2 * AREA)
    left, right, small = visual.pixels
    assert left.max() == 0 and (right[..., 0] == 255).all()
    assert small[:, :200].max() == 0 and (small[:, 300:, 0] == 255).all()
    places = list(visual.places(0))
    assert len(places) == 3 * 256
    assert places[0] == (0, 0, 0) and places[17] == (0, 1, 1)
    assert places[256] == (1, 0, 16) and places[511] == (1, 15, 31)
    assert places[512] == (THUMBNAIL, 0, 0) and places[-1] == (THUMBNAIL, 15, 15)
    assert visual.grid == {"frames": 1, "rows": 16, "cols": 32}


def test_one_tile_has_no_thumbnail(look, picture):
    (visual,) = look.prepare_images(picture(64, 64), None, None)
    assert {tile for tile, _, _ in visual.places(0)} == {0}
    assert visual.num_patches == 1024


def test_digests_tell_pictures_apart(look, picture):
    one, other, turned = look.prepare_images(
        [picture(64, 64), picture(64, 64, 1), picture(64, 128)], None, None
    )
    assert len({one.digest(), other.digest(), turned.digest()}) == 3
    assert one.digest() == look.prepare_images(picture(64, 64), None, None)[0].digest()


# --- videos


@pytest.mark.parametrize(
    ("n", "fps", "wanted", "indices"),
    [
        (80, 24.0, None, [5, 15, 25, 35, 45, 55, 65, 75]),
        (3, 24.0, None, [0, 1, 2]),
        (48, 24.0, 1.0, [12, 36]),
        (10, 24.0, 1.0, [5]),
        (4, 2.0, 100.0, [0, 1, 2, 3]),
    ],
)
def test_frames_are_the_middles_of_segments(look, n, fps, wanted, indices):
    assert look.sample_frames(n, fps, wanted) == indices


def test_frames_are_their_processors(look):
    pytest.importorskip("torchvision")
    from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor
    from transformers.video_utils import VideoMetadata

    processor = InternVLVideoProcessor()
    for n in (8, 9, 31, 80, 1001):
        data = VideoMetadata(total_num_frames=n, fps=12.0)
        want = processor.sample_frames(data, num_frames=8).tolist()
        assert look.sample_frames(n, 12.0) == want
        if n >= 12:
            want = processor.sample_frames(data, fps=3.0).tolist()
            assert look.sample_frames(n, 12.0, 3.0) == want


def test_a_frame_is_one_tile(look, theirs, picture):
    frames = [picture(90, 150, seed) for seed in range(4)]
    visual = look.prepare_video(frames, 2.0, None, None, None)
    assert (visual.frames, visual.rows, visual.cols) == (4, 16, 16)
    assert visual.seconds == (0.0, 0.5, 1.0, 1.5) and visual.is_video
    assert torch.equal(stacked([visual]), theirs(frames, max_patches=1)["pixel_values"])


def test_a_video_file_may_say_how_many_frames(tmp_path):
    content = {"num_frames": 4, "video_processor_type": "InternVLVideoProcessor"}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(content))
    assert read_tile_preprocessor(tmp_path, {}).sample_frames(80, 24.0) == [10, 30, 50, 70]


# --- bad input


def test_a_panorama_is_stretched_onto_tiles(look, picture):
    (visual,) = look.prepare_images(picture(1, 2000), None, None)
    assert (visual.tile_rows, visual.tile_cols) == (1, 10)
    (visual,) = look.prepare_images(picture(2000, 1), None, None)
    assert (visual.tile_rows, visual.tile_cols) == (10, 1)


def test_an_empty_picture(look):
    with pytest.raises(ValueError, match="there is nothing in it"):
        look.prepare_images(Image.new("RGB", (0, 5)), None, None)
    with pytest.raises(ValueError, match="picture batch is empty"):
        look.prepare_images(torch.zeros(0, 4, 4, 3), None, None)


def test_bounds_that_exclude_each_other(look, picture):
    with pytest.raises(ValueError, match="Lower min_pixels or raise max_pixels"):
        look.prepare_images(picture(64, 64), 2 * AREA, AREA)


def test_a_video_without_frames_or_rate(look, picture):
    with pytest.raises(ValueError, match="has no frames"):
        look.prepare_video([], 24.0, None, None, None)
    with pytest.raises(ValueError, match="fps is 0"):
        look.prepare_video([picture(8, 8)], 0, None, None, None)
    with pytest.raises(ValueError, match="frames of a video must be of one size"):
        look.prepare_video([picture(8, 8), picture(8, 9)], 24.0, None, None, None)


def test_files_that_contradict_each_other(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 448, "width": 448}}')
    with pytest.raises(ValueError, match="tiles are 448 pixels wide.*takes 336"):
        read_tile_preprocessor(tmp_path, {"vision_config": {"image_size": [336, 336]}})
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 448, "width": 224}}')
    with pytest.raises(ValueError, match="square ones were expected"):
        read_tile_preprocessor(tmp_path, {})


def test_without_files_the_published_values_hold(tmp_path, look):
    assert read_tile_preprocessor(tmp_path / "none", {}) == look
    assert (
        isinstance(look, TilePreprocessor)
        and FAMILY.vision.read_preprocessor is read_tile_preprocessor
    )
