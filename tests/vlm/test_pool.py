"""Pooling: area means against exact block means, whose tokens count, and what the map says."""

import math

import numpy as np
import pytest
import torch

import vlm
from vlm.token_map import join, new_map, read_map
from vlm.tokens.parts import share_out
from vlm.tokens.pool import fitting_grid, pool_tokens
from vlm.tokens.pooling import area_means, norm_factor, pool_to
from vlm.tokens.tokens import Tokens

WIDTH = 32


def grid_map(rows: int, cols: int, image: int = 0, frames: int = 1) -> dict:
    """The map of one picture, or of the frames of a video."""
    n = rows * cols
    at = list(range(n)) * frames
    return new_map(
        ["image"] * len(at),
        [image] * len(at),
        frames=[i // n for i in range(len(at))],
        rows=[i // cols for i in at],
        cols=[i % cols for i in at],
        grids=[{"image": image, "frames": frames, "rows": rows, "cols": cols}],
    )


def tokens_of(token_map: dict, seed: int = 0, batch: int = 1) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    return Tokens(torch.randn(batch, token_map["n"], WIDTH, generator=generator), token_map)


def picture(rows: int, cols: int, seed: int = 0, batch: int = 1) -> Tokens:
    return tokens_of(grid_map(rows, cols), seed, batch)


def words(n: int) -> dict:
    return new_map(["text"] * n)


def block_means(x: torch.Tensor, rows: int, cols: int, r: int, c: int) -> np.ndarray:
    """Exact area means, [r · c, D]: tokens repeated r x c times, then means of whole blocks."""
    fine = x.double().numpy().reshape(rows, cols, -1).repeat(r, axis=0).repeat(c, axis=1)
    return fine.reshape(r, rows, c, cols, -1).mean(axis=(1, 3)).reshape(r * c, -1)


def same_directions(got: torch.Tensor, want: np.ndarray) -> None:
    """Equal but for one factor over all tokens."""
    ratio = np.linalg.norm(got.double().numpy()) / np.linalg.norm(want)
    np.testing.assert_allclose(got, want * ratio, atol=2e-6 * np.abs(want * ratio).max())


def weights_of(rows: int, cols: int, bands: list[int]) -> torch.Tensor:
    """Which token counts how much in which cell: [cells, tokens]."""
    return area_means(torch.eye(rows * cols)[None], rows, cols, bands)[0]


# --- area means -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "size"),
    [((4, 6), (2, 3)), ((7, 5), (3, 2)), ((24, 24), (5, 7)), ((1, 9), (1, 4)), ((3, 3), (3, 1))],
)
def test_cells_are_the_means_of_the_area_they_cover(grid, size):
    t = picture(*grid, batch=2)
    out = pool_tokens(t, rows=size[0], cols=size[1])
    for row, pooled in zip(t.states, out.states, strict=True):
        same_directions(pooled, block_means(row, *grid, *size))


@pytest.mark.parametrize(("rows", "cols"), [(24, 24), (7, 10), (1, 30), (13, 2)])
@pytest.mark.parametrize("bands", [[1], [2, 3], [3, 2, 2], [1, 4, 1, 5], [2] * 7])
def test_every_token_counts_the_same_in_cells_of_one_area(rows, cols, bands):
    weights = weights_of(rows, cols, bands)
    assert torch.allclose(weights.sum(dim=1), torch.ones(sum(bands)), atol=1e-5)
    share = torch.full((rows * cols,), sum(bands) / (rows * cols))
    assert torch.allclose(weights.sum(dim=0), share, rtol=1e-4)


def test_a_token_at_the_edge_of_two_cells_is_split_by_area():
    assert weights_of(1, 3, [2]).tolist() == pytest.approx(
        [pytest.approx([2 / 3, 1 / 3, 0]), pytest.approx([0, 1 / 3, 2 / 3])]
    )
    assert torch.equal(weights_of(3, 4, [4, 4, 4]), torch.eye(12))


@pytest.mark.parametrize("n", [1, 2, 5, 17, 23, 97, 300, 511, 512, 575, 576])
@pytest.mark.parametrize("mapped", [True, False])
def test_for_any_two_lengths_every_token_counts(n, mapped):
    t = picture(24, 24)
    states = t.states.clone().requires_grad_()
    out = pool_to(Tokens(states, t.token_map if mapped else None), n)
    assert out.shape == (1, n, WIDTH)
    (gradient,) = torch.autograd.grad(
        (out * torch.randn(out.shape, generator=torch.manual_seed(1))).sum(), states
    )
    assert (gradient.norm(dim=2) > 0).all()


def test_as_many_tokens_as_there_are_come_out_as_they_are():
    t = picture(4, 6)
    assert torch.allclose(pool_to(t, 24), t.states, atol=1e-6)
    assert pool_tokens(t, tokens=24) is t and pool_tokens(t, tokens=1000) is t
    assert pool_tokens(t, rows=4, cols=6) is t


# --- several pictures, frames, tiles --------------------------------------------------------------


def by_picture(weighed: torch.Tensor, counts: list[int]) -> list[list[int]]:
    """Of which pictures the tokens of each cell are."""
    owner = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)])
    return [sorted(set(owner[row != 0].tolist())) for row in weighed]


def read_weights(token_map: dict, n: int) -> torch.Tensor:
    """Which tokens each of n cells reads: [n, N], not zero where it does."""
    count = token_map["n"]
    x = Tokens(torch.eye(count)[None], token_map)
    return pool_to(x, n)[0]


def test_several_pictures_share_the_length_in_proportion():
    token_map = join(grid_map(8, 8), grid_map(4, 8))
    owners = by_picture(read_weights(token_map, 12), [64, 32])
    assert owners == [[0]] * 8 + [[1]] * 4
    out = pool_tokens(tokens_of(token_map), tokens=24)
    assert [(g["rows"], g["cols"]) for g in out.token_map["grids"]] == [(4, 4), (2, 4)]
    assert out.token_map["image"] == [0] * 16 + [1] * 8


def test_fewer_text_tokens_than_pictures_still_read_every_token():
    token_map = join(join(grid_map(2, 2), grid_map(3, 3)), grid_map(1, 2))
    for n in (1, 2):
        weights = read_weights(token_map, n)
        assert (weights != 0).any(dim=0).all()


def test_frames_are_pooled_one_by_one():
    t = tokens_of(grid_map(4, 4, frames=3))
    out = pool_tokens(t, tokens=12)
    assert out.n == 12 and out.token_map["grids"] == [
        {"image": 0, "frames": 3, "rows": 2, "cols": 2}
    ]
    assert out.token_map["frame"] == [0] * 4 + [1] * 4 + [2] * 4
    for frame in range(3):
        want = block_means(t.states[0, 16 * frame : 16 * frame + 16], 4, 4, 2, 2)
        same_directions(out.states[0, 4 * frame : 4 * frame + 4], want)


def tiled() -> dict:
    """A picture of 2 x 4 tokens as two tiles of 2 x 2, its thumbnail, and two words."""
    tiles = [0] * 4 + [1] * 4 + [-1] * 4
    cols = [0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1]
    image = new_map(
        ["image"] * 12, [0] * 12, tiles=tiles, rows=[0, 0, 1, 1] * 3, cols=cols,
        grids=[{"image": 0, "frames": 1, "rows": 2, "cols": 4}],
    )  # fmt: skip
    return join(image, words(2))


def test_tiles_make_one_grid_and_the_thumbnail_its_own():
    t = tokens_of(tiled())
    out = pool_tokens(t, rows=1, cols=2)
    assert out.token_map["tile"] == [0, 0, -1, -1, 0, 0]
    assert out.token_map["grids"] == [{"image": 0, "frames": 1, "rows": 1, "cols": 2}]
    same_directions(
        out.states[0, :2], torch.stack([t.states[0, i : i + 4].mean(0) for i in (0, 4)]).numpy()
    )
    small = t.states[0, 8:12]
    same_directions(
        out.states[0, 2:4], torch.stack([small[[0, 2]].mean(0), small[[1, 3]].mean(0)]).numpy()
    )
    assert torch.equal(out.states[:, 4:], t.states[:, 12:])


def test_words_and_markers_stay_where_they_are():
    token_map = join(join(words(3), grid_map(4, 4)), words(2))
    token_map["role"][2], token_map["image"][2] = "vision_marker", 0
    t = tokens_of(token_map)
    out = pool_tokens(t, tokens=4)
    assert out.token_map["role"] == ["text"] * 2 + ["vision_marker"] + ["image"] * 4 + ["text"] * 2
    assert torch.equal(out.states[:, :3], t.states[:, :3])
    assert torch.equal(out.states[:, 7:], t.states[:, 19:])
    assert read_map(out.token_map, out.n) is out.token_map


def test_cells_lie_in_reading_order_whatever_the_order_of_the_tokens():
    t = picture(4, 6)
    order = torch.randperm(24, generator=torch.manual_seed(3)).tolist()
    mixed = t.take(order)
    assert torch.allclose(
        pool_tokens(mixed, rows=2, cols=3).states, pool_tokens(t, rows=2, cols=3).states, atol=1e-6
    )
    assert torch.allclose(pool_to(mixed, 7), pool_to(t, 7), atol=1e-6)


def test_the_map_says_the_new_grid_and_griddot_reads_it():
    out = pool_tokens(picture(24, 24), tokens=36)
    assert out.token_map["grids"] == [{"image": 0, "frames": 1, "rows": 6, "cols": 6}]
    mask = vlm.radial_mask(6, 6, [vlm.Dot(0.5, 0.5, 0.5)])
    weighed = vlm.apply_mask(out, mask)
    expected = out.states * mask.flatten()[:, None]
    assert torch.allclose(weighed.states, expected)


# --- norms ----------------------------------------------------------------------------------------


def median_norm(x: torch.Tensor) -> float:
    return x.norm(dim=2).median().item()


def test_the_typical_norm_is_restored_for_each_picture():
    token_map = join(grid_map(8, 8), grid_map(8, 8))
    t = tokens_of(token_map)
    t.states[:, 64:] *= 5
    out = pool_tokens(t, tokens=32)
    for half, whole in (
        (out.states[:, :16], t.states[:, :64]),
        (out.states[:, 16:], t.states[:, 64:]),
    ):
        assert median_norm(half) == pytest.approx(median_norm(whole), rel=1e-5)
    assert median_norm(pool_to(picture(24, 24), 17)) == pytest.approx(
        median_norm(picture(24, 24).states), rel=1e-5
    )


def test_a_sink_does_not_decide_the_norm():
    t = picture(8, 8)
    plain = median_norm(t.states)
    t.states[0, 9] *= 400
    out = pool_tokens(t, tokens=16)
    norms = out.states.norm(dim=2)[0]
    assert norms.median() == pytest.approx(plain, rel=0.05)
    assert (norms > 5 * plain).sum() == 1
    assert norm_factor(t.states.norm(dim=2), torch.full((1, 4), 1e9)).tolist() == [1.0]


def test_tokens_that_a_mask_took_away_stay_away():
    t = picture(8, 8)
    t.states[:, :32] = 0
    out = pool_tokens(t, rows=4, cols=4).states
    assert not out[:, :8].any() and out[:, 8:].any()
    assert median_norm(out[:, 8:]) == pytest.approx(median_norm(t.states[:, 32:]), rel=1e-5)
    zero = picture(4, 4).states * 0
    assert not pool_to(Tokens(zero, grid_map(4, 4)), 5).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtype_stays_and_the_arithmetic_is_float32(dtype):
    t = Tokens(picture(6, 6).states.to(dtype), grid_map(6, 6))
    out = pool_tokens(t, tokens=9).states
    wide = pool_tokens(Tokens(t.states.float(), t.token_map), tokens=9).states
    assert out.dtype == dtype and torch.equal(out, wide.to(dtype))


# --- GridDot, then blend --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("length", [5, 17, 64, 512])
@pytest.mark.parametrize("radius", [0.2, 0.5])
def test_a_dot_works_at_every_place_and_length(length, radius):
    """At the sides two-point resampling sees nothing of it."""
    t, text = picture(24, 24), Tokens(torch.zeros(1, length, WIDTH), words(length))

    def effect(x: float, y: float, method: str = "auto") -> float:
        mask = vlm.radial_mask(24, 24, [vlm.Dot(x, y, radius, -1.0)], floor=1.0)
        mixed = vlm.blend(vlm.apply_mask(t, mask), text, 0.3, method).states
        return (mixed - vlm.blend(t, text, 0.3, method).states).norm().item()

    centre = effect(0.5, 0.5)
    places = [(x / 10, y / 10) for x in range(1, 10, 2) for y in range(1, 10, 2)]
    assert min(effect(*place) for place in places) >= 0.5 * centre
    assert min(effect(*place) for place in [(0, 0.5), (0.5, 0), (1, 0.5), (0.5, 1)]) >= 0.2 * centre


# --- sizes ----------------------------------------------------------------------------------------


def test_shares_are_in_proportion_with_one_at_least():
    assert share_out(12, [64, 32]) == [8, 4]
    assert share_out(5, [1000, 1, 1]) == [3, 1, 1]
    assert share_out(10, [2, 100]) == [1, 9]
    assert share_out(102, [2, 100]) == [2, 100]


@pytest.mark.parametrize("rows", [1, 3, 24])
@pytest.mark.parametrize("cols", [1, 10, 24])
def test_a_fitting_grid_is_within_its_bounds(rows, cols):
    for cells in range(1, rows * cols + 1):
        r, c = fitting_grid(rows, cols, cells)
        assert 1 <= r <= rows and 1 <= c <= cols and r * c <= cells
    assert fitting_grid(rows, cols, rows * cols) == (rows, cols)
    assert fitting_grid(24, 24, 256) == (16, 16) and fitting_grid(20, 30, 6) == (2, 3)


def test_errors_in_words():
    t = picture(4, 6)
    with pytest.raises(ValueError, match="`pool_tokens`.*carries no token map.*`encode`"):
        pool_tokens(Tokens(t.states), tokens=4)
    with pytest.raises(ValueError, match="found no image tokens.*`filter_tokens`"):
        pool_tokens(tokens_of(words(5)), tokens=4)
    with pytest.raises(ValueError, match="image 0 has 4 x 6 tokens, 5 x 2 were asked for"):
        pool_tokens(t, rows=5, cols=2)
    with pytest.raises(ValueError, match="cannot make 1 tokens of 2 pictures.*2 or more"):
        pool_tokens(tokens_of(join(grid_map(2, 2), grid_map(2, 2))), tokens=1)
    for wrong in ({}, {"rows": 2}, {"tokens": 4, "rows": 2, "cols": 2}, {"tokens": 4, "cols": 1}):
        with pytest.raises(ValueError, match="either tokens .* or rows and cols"):
            pool_tokens(t, **wrong)
    for value in (0, -1, 2.5, True, "4", math.nan):
        with pytest.raises((TypeError, ValueError), match="a whole number"):
            pool_tokens(t, tokens=value)
    with pytest.raises(ValueError, match="image 0: their rows and columns do not make one whole"):
        pool_tokens(t.take(range(3, 24)), tokens=4)
    with pytest.raises(ValueError, match="5 cannot become 9"):
        pool_to(Tokens(torch.ones(1, 5, 2)), 9)


# --- hidden states --------------------------------------------------------------------------------


def test_hidden_states_are_pooled_layer_by_layer_when_asked_for(tiny, picture_of):
    h = tiny().encode("a red house", images=[picture_of(128, 160)], target="z-image")
    pooled = pool_tokens(h, tokens=6)
    assert pooled.held == () and pooled.n < h.n
    for k in (-8, -1):
        want = pool_tokens(vlm.select_layers(h, k), tokens=6)
        got = vlm.select_layers(pooled, k)
        assert torch.equal(got.states, want.states) and got.token_map == want.token_map
    deep = pooled.stretch(1, 5, [3, 7])
    assert torch.equal(deep, pooled.layers([3, 7])[:, :, 1:5])


def test_pooled_hidden_states_are_filtered_weighed_and_pooled_again(tiny, picture_of):
    h = tiny().encode("a red house", images=[picture_of(128, 160)], target="z-image")
    t = vlm.select_layers(h, -8)
    mask = vlm.radial_mask(2, 3, [vlm.Dot(0.5, 0.5, 0.9)], floor=0.3)

    def way(x):
        x = vlm.apply_mask(pool_tokens(x, rows=2, cols=3), mask)
        return pool_tokens(vlm.filter_tokens(x, "image"), rows=1, cols=2)

    assert torch.allclose(vlm.select_layers(way(h), -8).states, way(t).states, atol=1e-6)


def test_pooled_hidden_states_still_leave_out_what_the_target_never_sees(tiny, picture_of):
    h = tiny().encode("a red house", images=[picture_of(128, 160)], target="krea2")
    assert h.dropped > 0
    pooled = pool_tokens(h, tokens=6)
    assert pooled.dropped == h.dropped
    want = pool_tokens(vlm.select_layers(h, 5), tokens=6)
    assert torch.equal(vlm.select_layers(pooled, 5).states, want.states)


@pytest.fixture(name="picture_of")
def _picture_of(request):
    """The suite's `picture` drawer, whose name this file gives to tokens."""
    return request.getfixturevalue("picture")
