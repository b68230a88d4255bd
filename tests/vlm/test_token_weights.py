"""Weights on an image's tokens: resampled masks, tokens and hidden states, frames and tiles."""

import itertools

import numpy as np
import pytest
import torch

import vlm
from vlm.token_map import new_map
from vlm.tokens.token_weights import apply_mask, image_grid, resample_mask
from vlm.tokens.tokens import Tokens


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def two_images(dtype=torch.float32):
    """A text token, image 0 (2 x 3) between markers, image 1 (2 frames of 2 x 2), a text token."""
    first = [(0, r, c) for r in range(2) for c in range(3)]
    second = [(f, r, c) for f in range(2) for r in range(2) for c in range(2)]
    roles = ["text", "vision_marker", *["image"] * 6, "vision_marker", *["image"] * 8, "text"]
    images = [-1, 0, *[0] * 6, 0, *[1] * 8, -1]
    places = [(0, 0, 0)] * 2 + first + [(0, 0, 0)] + second + [(0, 0, 0)]
    frames, rows, cols = zip(*places, strict=True)
    grids = [
        {"image": 0, "frames": 1, "rows": 2, "cols": 3},
        {"image": 1, "frames": 2, "rows": 2, "cols": 2},
    ]
    map_ = new_map(roles, images, frames=frames, rows=rows, cols=cols, grids=grids)
    return Tokens((random(2, len(roles), 5, seed=3) - 0.5).to(dtype), map_)


IMAGE_0, IMAGE_1 = slice(2, 8), slice(9, 17)


# --- masks ---------------------------------------------------------------------------------------


def by_supersampling(mask, rows, cols):
    """Every pixel repeated rows x cols times: then each token covers whole pixels."""
    fine = np.repeat(np.repeat(mask.double().numpy(), rows, axis=0), cols, axis=1)
    height, width = mask.shape
    return torch.from_numpy(fine.reshape(rows, height, cols, width).mean(axis=(1, 3))).float()


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (64, 48), (5, 7), (3, 2), (11, 100)])
@pytest.mark.parametrize("grid", [(4, 6), (1, 1), (7, 5)])
def test_resampled_by_area(size, grid):
    mask = random(*size)
    out = resample_mask(mask, *grid)
    assert out.dtype == torch.float32
    assert (out - by_supersampling(mask, *grid)).abs().max() <= 1e-6


def test_a_batch_is_resampled_one_by_one():
    masks = random(3, 8, 8)
    out = resample_mask(masks, 2, 4)
    assert out.shape == (3, 2, 4)
    assert torch.equal(out[1], resample_mask(masks[1], 2, 4))


def test_a_mask_of_the_grids_size_stays():
    mask = random(4, 6)
    assert torch.allclose(resample_mask(mask, 4, 6), mask, atol=1e-7)
    assert torch.equal(resample_mask(torch.ones(33, 57), 4, 6), torch.ones(4, 6))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 2, 2, 2), r"this is \[2, 2, 2, 2\]"),
        (torch.ones(4), r"this is \[4\]"),
        (torch.ones(0, 4), r"this is \[0, 4\]"),
        (torch.full((2, 2), torch.nan), "holds NaN or Inf"),
        (torch.full((2, 2), 255.0), "goes from 255 to 255, a mask is 0 to 1"),
        (torch.tensor([[-0.5, 1.0]]), "goes from -0.5 to 1"),
        (torch.zeros(4, 4, device="meta"), "this one has no data"),
        (torch.zeros(4, 4).to_sparse(), "this one is torch.float32, torch.sparse_coo"),
        (torch.zeros(4, 4, dtype=torch.complex64), "this one is torch.complex64"),
        (torch.zeros(1).expand(2**14, 2**14), r"\[16384, 16384\], at most 134217728 values"),
    ],
)
def test_bad_masks(mask, message):
    with pytest.raises(ValueError, match=message):
        resample_mask(mask, 4, 6)


@pytest.mark.parametrize(
    ("rows", "cols"), [(0, 4), (4, 0), (-1, 4), (4, -(2**40)), (3, 2**31 - 1), (2**12, 2**12)]
)
def test_grids_that_no_picture_has(rows, cols):
    with pytest.raises(ValueError, match=rf"this is {rows} x {cols}\. Take the numbers"):
        resample_mask(torch.ones(8, 8), rows, cols)
    with pytest.raises(ValueError, match=rf"this is {rows} x {cols}\. Take the numbers"):
        vlm.radial_mask(rows, cols, [vlm.Dot(0.5, 0.5, 0.5)])


def test_a_mask_that_is_no_tensor():
    with pytest.raises(TypeError, match="`mask` of `resample_mask` is 'white'.*expected a tensor"):
        resample_mask("white", 4, 6)


# --- tokens --------------------------------------------------------------------------------------


def test_only_that_image_is_weighed():
    t, mask = two_images(), random(2, 3)
    out = apply_mask(t, mask, image=0)
    assert torch.equal(out.states[:, IMAGE_0], t.states[:, IMAGE_0] * mask.reshape(6, 1))
    others = [i for i in range(t.n) if not 2 <= i < 8]
    assert torch.equal(out.states[:, others], t.states[:, others])
    assert out.token_map == t.token_map


def test_every_frame_takes_the_mask():
    t, mask = two_images(), random(2, 2)
    out = apply_mask(t, mask, image=1)
    twice = mask.reshape(4, 1).repeat(2, 1)
    assert torch.equal(out.states[:, IMAGE_1], t.states[:, IMAGE_1] * twice)
    assert torch.equal(apply_mask(t, mask[None], image=1).states, out.states)


def test_a_mask_per_frame():
    t, masks = two_images(), random(2, 2, 2)
    out = apply_mask(t, masks, image=1)
    assert torch.equal(out.states[:, IMAGE_1], t.states[:, IMAGE_1] * masks.reshape(8, 1))


def test_ones_change_nothing():
    t = two_images()
    assert apply_mask(t, torch.ones(2, 3)) is t


def test_the_dtype_stays():
    t, mask = two_images(torch.bfloat16), random(2, 3)
    out = apply_mask(t, mask)
    assert out.states.dtype == torch.bfloat16
    exact = t.states[:, IMAGE_0].float() * mask.reshape(6, 1)
    assert torch.equal(out.states[:, IMAGE_0], exact.bfloat16())


def test_after_a_filter_the_rest_still_has_its_place():
    t, mask = two_images(), random(2, 3)
    some = t.take([4, 0, 7])  # row 0 column 2, text, row 1 column 2
    out = apply_mask(some, mask)
    assert torch.equal(out.states[:, 0], t.states[:, 4] * mask[0, 2])
    assert torch.equal(out.states[:, 1], t.states[:, 0])
    assert torch.equal(out.states[:, 2], t.states[:, 7] * mask[1, 2])


def test_an_images_grid():
    assert image_grid(two_images().token_map, 0) == (1, 2, 3)
    assert image_grid(two_images().token_map, 1) == (2, 2, 2)


def tiled(places, tiles):
    """Tokens of one image of 2 x 4, at these places of these tiles."""
    n = len(places)
    rows, cols = zip(*places, strict=True)
    grids = [{"image": 0, "frames": 1, "rows": 2, "cols": 4}]
    map_ = new_map(["image"] * n, [0] * n, tiles=tiles, rows=rows, cols=cols, grids=grids)
    return Tokens(torch.ones(1, n, 3), map_)


def test_tiles_on_one_grid_with_a_thumbnail():
    places = list(itertools.product(range(2), range(4)))
    small = list(itertools.product(range(1), range(2)))
    t = tiled([*places, *small], [*(col // 2 for _, col in places), -1, -1])
    mask = random(2, 4)
    out = apply_mask(t, mask).states[0, :, 0]
    assert torch.equal(out[:8], mask.flatten())
    assert torch.allclose(out[8:], torch.stack([mask[:, :2].mean(), mask[:, 2:].mean()]))


def test_tiles_with_grids_of_their_own_are_refused():
    places = list(itertools.product(range(2), range(2)))
    t = tiled([*places, *places], [0] * 4 + [1] * 4)
    with pytest.raises(ValueError, match="cannot place the tokens of image 0.*without tiles"):
        apply_mask(t, random(2, 4))


@pytest.mark.parametrize(
    ("mask", "image", "message"),
    [
        (torch.ones(3, 2), 0, r"mask is \[3, 2\], the token grid of image 0 is 2 x 3"),
        (torch.ones(6), 0, r"mask is \[6\]"),
        (torch.ones(1, 1, 2, 3), 0, r"mask is \[1, 1, 2, 3\]"),
        (torch.ones(4, 2, 3), 0, r"batch of 4, image 0 has 1 frame"),
        (torch.ones(3, 2, 2), 1, r"batch of 3, image 1 has 2 frame"),
        (torch.full((2, 3), torch.nan), 0, "holds NaN"),
        (torch.ones(2, 3), 2, r"Image 2 has no tokens here: there are images 0, 1 \(counted"),
        (torch.ones(2, 3), -1, "Image -1 has no tokens here"),
    ],
)
def test_masks_and_images_that_do_not_fit(mask, image, message):
    with pytest.raises(ValueError, match=message):
        apply_mask(two_images(), mask, image)


def test_without_image_tokens():
    t = two_images()
    with pytest.raises(ValueError, match="found no image tokens"):
        apply_mask(t.take([0, 1]), torch.ones(2, 3))
    with pytest.raises(ValueError, match="no token map"):
        apply_mask(Tokens(t.states), torch.ones(2, 3))


# --- hidden states -------------------------------------------------------------------------------


@pytest.fixture
def seen(tiny, picture):
    """Hidden states of a prompt with a picture, its grid, and a mask for it."""
    model = tiny()
    h = model.encode("a red house", [picture(96, 160)], target="z-image")
    _, rows, cols = image_grid(h.token_map)
    yield h, random(rows, cols)


def test_every_layer_of_hidden_states_is_weighed(seen):
    h, mask = seen
    w = apply_mask(h, mask)
    for layer, norm in [(0, True), (12, True), (-2, True), (-1, True), (-1, False)]:
        expected = apply_mask(Tokens(h.layer(layer, norm), h.token_map), mask)
        assert torch.equal(w.layer(layer, norm), expected.states)
    assert torch.equal(w.layers([3, -1])[:, 1], w.layer(-1))
    assert w.token_map == h.token_map and w.n == h.n


def test_weighing_runs_nothing_and_leaves_the_original(tiny, picture, watch):
    h = tiny().encode("a red house", [picture(96, 160)], target="z-image")
    before = h.layer(-2)
    _, rows, cols = image_grid(h.token_map)
    seen = watch(tiny())
    w = apply_mask(h, random(rows, cols))
    w.layer(-2)
    assert seen.layers == []
    assert torch.equal(h.layer(-2), before)
    assert w.held == h.held and w.store.state(3)[0] is h.store.state(3)[0]


def test_weights_multiply_and_follow_a_filter(seen):
    h, mask = seen
    twice = apply_mask(apply_mask(h, mask), mask)
    expected = apply_mask(apply_mask(Tokens(h.layer(5), h.token_map), mask), mask).states
    assert torch.allclose(twice.layer(5), expected, rtol=1e-6)
    kept = vlm.filter_tokens(apply_mask(h, mask), keep="image")
    first = vlm.filter_tokens(h, keep="image")
    assert torch.equal(kept.layer(5), apply_mask(first, mask).layer(5))
    assert torch.equal(kept.layer(5)[0], first.layer(5)[0] * mask.reshape(-1, 1))


def test_every_version_of_the_weights_is_weighed(seen, tiny, picture):
    h, mask = seen
    later = tiny().encode("a red house", [picture(96, 160, seed=4)], target="z-image")
    h.add_keyframes([later])
    _, weighed = apply_mask(h, mask).keyframes
    assert torch.equal(weighed.layer(4), apply_mask(later, mask).layer(4))


def test_a_mask_of_ones_keeps_the_hidden_states(seen):
    h, mask = seen
    assert apply_mask(h, torch.ones_like(mask)) is h


def test_hidden_states_without_a_picture(tiny):
    h = tiny().encode("a red house", target="z-image")
    with pytest.raises(ValueError, match="found no image tokens"):
        apply_mask(h, torch.ones(2, 2))
