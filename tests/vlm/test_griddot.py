"""GridDot: golden masks, an independent formula, the JSON text, and what it says of bad dots."""

import json
import math
import random
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vlm.token_map import new_map
from vlm.tokens.griddot import COMBINE, radial_mask
from vlm.tokens.shape_text import parse_dots, write_dots
from vlm.tokens.shapes import MAX_POINTS, MAX_SHAPES, Box, Dot, Stroke, count_words
from vlm.tokens.token_weights import apply_mask
from vlm.tokens.tokens import Tokens

FILE = Path(__file__).parents[1] / "golden" / "reference.safetensors"
GOLDEN = load_file(FILE)
with safe_open(FILE, "pt") as opened:
    CASES = {
        k: json.loads(v) for k, v in sorted(opened.metadata().items()) if k.startswith("griddot.")
    }


def golden_case(key):
    """(rows, cols, dot) of a golden case; its grid is counted before the merge of 2 x 2."""
    case = CASES[key]
    dot = Dot(case["center_x"], case["center_y"], case["radius"])
    return case["grid_h"] // 2, case["grid_w"] // 2, dot


def from_a_line(points, x, y):
    """Distance of x, y from a line: its points and ever finer ones between them."""
    ways = list(zip(points, points[1:], strict=False)) or [(points[0], points[0])]
    return min(
        math.dist((x0 + part * (x1 - x0), y0 + part * (y1 - y0)), (x, y))
        for (x0, y0), (x1, y1) in ways
        for part in (step / 2000 for step in range(2001))
    )


def in_the_box(box, rows, cols, row, col):
    """Share of a token's cell in a box, by points of it."""
    places = [(step + 0.5) / 200 for step in range(200)]
    across = sum(box.x0 * cols <= col + place <= box.x1 * cols for place in places) / 200
    down = sum(box.y0 * rows <= row + place <= box.y1 * rows for place in places) / 200
    return across * down


def by_hand(rows, cols, dots, combine, floor):
    """The weights after the text of the formula, token by token."""

    def reach(dot, row, col):
        if isinstance(dot, Box):
            return in_the_box(dot, rows, cols, row, col)
        points = dot.points if isinstance(dot, Stroke) else [(dot.x, dot.y)]
        placed = [(x * cols, y * rows) for x, y in points]
        if isinstance(dot, Dot):
            distance = math.dist(placed[0], (col, row))
        else:
            distance = from_a_line(placed, col, row)
        return min(max(1 - distance / (dot.radius * min(rows, cols)), 0), 1)

    def weight(row, col):
        drawn = [d.strength * reach(d, row, col) for d in dots if d.strength > 0]
        joined = {
            "max": max(drawn, default=0),
            "sum": sum(drawn),
            "screen": 1 - math.prod(1 - each for each in drawn),
        }[combine]
        taken = [1 - abs(d.strength) * reach(d, row, col) for d in dots if d.strength < 0]
        return min(max((floor + (1 - floor) * joined) * math.prod(taken), 0), 1)

    return torch.tensor([[weight(row, col) for col in range(cols)] for row in range(rows)])


# --- the formula ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key in CASES if key != "griddot.3"])
def test_golden(key):
    rows, cols, dot = golden_case(key)
    mask = radial_mask(rows, cols, [dot])
    assert (mask.shape, mask.dtype) == ((rows, cols), torch.float32)
    assert (mask - GOLDEN[f"{key}.mask"]).abs().max() <= 1e-5

    hidden = GOLDEN[f"{key}.hidden"]
    places = [(row, col) for row in range(rows) for col in range(cols)]
    grids = [{"image": 0, "frames": 1, "rows": rows, "cols": cols}]
    map_ = new_map(
        ["image"] * len(places), [0] * len(places), rows=[r for r, _ in places],
        cols=[c for _, c in places], grids=grids,
    )  # fmt: skip
    out = apply_mask(Tokens(hidden, map_), mask).states
    expected = GOLDEN[f"{key}.out"]
    assert (out - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


def test_golden_of_zeros_is_refused_with_its_radius():
    rows, cols, dot = golden_case("griddot.3")
    assert not GOLDEN["griddot.3.mask"].any()
    with pytest.raises(ValueError, match=r"all weights of the 7 x 10 grid are 0.*radius, 0\.05"):
        radial_mask(rows, cols, [dot])


def test_every_golden_case_is_checked():
    assert {key for key in GOLDEN if key.startswith("griddot.")} == {
        f"{key}.{part}" for key in CASES for part in ("hidden", "mask", "out")
    }


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("combine", COMBINE)
def test_random_dots(seed, combine):
    rng = random.Random(f"{seed} {combine}")
    rows, cols = rng.randint(1, 13), rng.randint(1, 13)
    dots = [
        Dot(rng.random(), rng.random(), rng.uniform(0.05, 1.5), rng.uniform(-1, 1))
        for _ in range(rng.randint(1, 6))
    ]
    floor = rng.choice([0.05, 0.3, 0.9])
    mask = radial_mask(rows, cols, dots, combine, floor)
    assert (mask - by_hand(rows, cols, dots, combine, floor)).abs().max() <= 1e-6


def drawn(rng):
    """A few shapes of all kinds."""
    place = lambda: (rng.random(), rng.random())  # noqa: E731
    shapes = [Dot(*place(), rng.uniform(0.05, 1.5), rng.uniform(-1, 1))]
    for _ in range(rng.randint(1, 2)):
        (x0, x1), (y0, y1) = sorted(place()), sorted(place())
        shapes.append(Box(x0, y0, x1, y1, rng.uniform(-1, 1)))
    points = [place() for _ in range(rng.randint(1, 4))]
    return [*shapes, Stroke(points, rng.uniform(0.05, 1), rng.uniform(-1, 1))]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("combine", COMBINE)
def test_random_boxes_and_strokes(seed, combine):
    rng = random.Random(f"{seed} {combine} all")
    rows, cols = rng.randint(1, 7), rng.randint(1, 7)
    shapes = drawn(rng)
    mask = radial_mask(rows, cols, shapes, combine, 0.1)
    assert (mask - by_hand(rows, cols, shapes, combine, 0.1)).abs().max() <= 0.02


def test_a_box_counts_inside_and_not_outside():
    mask = radial_mask(4, 8, [Box(0.25, 0, 0.75, 0.5)])
    assert mask[:2, 2:6].eq(1).all() and mask.sum() == 8
    half = radial_mask(4, 8, [Box(0.25, 0, 0.8125, 0.5, 0.5)])
    assert half[0].tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5, 0.25, 0]


def test_a_stroke_reaches_from_its_line_like_a_dot():
    line = radial_mask(8, 8, [Stroke([[0.25, 0.5], [0.75, 0.5]], 0.25)])
    assert torch.equal(line[4], torch.tensor([0, 0.5, 1, 1, 1, 1, 1, 0.5]))
    assert line[3, 2:7].eq(0.5).all() and line[2].eq(0).all()
    one = Stroke([(0.3, 0.6)], 0.4, 0.7)
    assert torch.equal(radial_mask(8, 8, [one]), radial_mask(8, 8, [Dot(0.3, 0.6, 0.4, 0.7)]))
    same = Stroke([(0.3, 0.6)] * 3, 0.4, 0.7)
    assert torch.equal(radial_mask(8, 8, [one]), radial_mask(8, 8, [same]))


def test_a_negative_box_takes_away():
    plain = radial_mask(6, 6, [Dot(0.5, 0.5, 1)])
    less = radial_mask(6, 6, [Dot(0.5, 0.5, 1), Box(0, 0, 1, 0.5, -1)])
    assert not less[:3].any() and torch.equal(less[3:], plain[3:])


def test_the_middle_of_four_by_four_is_token_two_two():
    mask = radial_mask(4, 4, [Dot(0.5, 0.5, 0.25)])
    assert mask.nonzero().tolist() == [[2, 2]]
    assert mask[2, 2] == 1


def test_a_negative_dot_only_takes_away():
    plain = radial_mask(6, 6, [Dot(0.5, 0.5, 1)])
    less = radial_mask(6, 6, [Dot(0.5, 0.5, 1), Dot(0, 0, 0.5, -1)])
    assert less[0, 0] == 0
    assert torch.equal(less[3:, 3:], plain[3:, 3:])
    assert (less <= plain).all()


def test_floor_one_is_one_everywhere():
    assert torch.equal(radial_mask(5, 7, [Dot(0.1, 0.2, 0.3, 0.4)], floor=1), torch.ones(5, 7))


def test_a_mask_multiplies_the_dots():
    half = torch.zeros(4, 6)
    half[:, :3] = 0.5
    dots = [Dot(0.5, 0.5, 2)]
    both = radial_mask(4, 6, dots, mask=half)
    assert torch.allclose(both, radial_mask(4, 6, dots) * half)
    with_floor = radial_mask(4, 6, dots, floor=0.2, mask=half)
    assert torch.allclose(with_floor, 0.2 + 0.8 * both)


def test_a_mask_alone_is_the_weights():
    mask = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(radial_mask(4, 6, [], mask=mask), mask)
    less = radial_mask(4, 6, [Dot(0, 0, 0.1, -1)], mask=mask)
    assert (less[:, 0, 0] == 0).all() and torch.equal(less[:, 1:], mask[:, 1:])


def test_a_thousand_dots_are_fast():
    rng = random.Random(0)
    dots = [Dot(rng.random(), rng.random(), 0.1, 0.5) for _ in range(MAX_SHAPES)]
    start = time.perf_counter()
    assert radial_mask(64, 64, dots).max() <= 0.5
    assert time.perf_counter() - start < 30


def test_two_thousand_points_are_fast():
    rng = random.Random(0)
    points = [(rng.random(), rng.random()) for _ in range(MAX_POINTS)]
    start = time.perf_counter()
    assert radial_mask(64, 64, [Stroke(points, 0.1, 0.5)]).max() <= 0.5
    assert time.perf_counter() - start < 30


# --- bad values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1.2, 0.5, 0.3), r"lies at x 1\.2, y 0\.5, outside the picture"),
        ((0.5, -0.01, 0.3), "outside the picture"),
        ((0.5, 10**400, 0.3), "outside the picture"),
        ((math.nan, 0.5, 0.3), "dot's x is a number, this is nan"),
        ((0.5, 0.5, math.inf), "dot's radius is a number, this is inf"),
        ((0.5, "0.5", 0.3), "dot's y is a number, this is '0.5'"),
        ((0.5, 0.5, True), "dot's radius is a number, this is True"),
        ((0.5, 0.5, 0), "has the radius 0; a radius is over 0"),
        ((0.5, 0.5, -1), "has the radius -1; a radius is over 0"),
        ((0.5, 0.5, 101), "has the radius 101; a radius is over 0 and up to 100"),
        ((0.5, 0.5, 0.3, 1.5), r"has the strength 1\.5; a strength is -1 to 1"),
        ((0.5, 0.5, 0.3, -2), "has the strength -2"),
    ],
)
def test_a_dot_says_what_is_wrong_with_it(values, message):
    with pytest.raises(ValueError, match=message):
        Dot(*values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(0, 0, 1.5, 1), r"box has x1 1\.5, outside the picture"),
        (lambda: Box(0.5, 0, 0.5, 1), r"from x 0\.5, y 0 to x 0\.5, y 1 and has no inside"),
        (lambda: Box(0, 0.5, 1, 0.25), "has no inside. x0 is left of x1, y0 above y1"),
        (lambda: Box(0, 0, 1, math.nan), "box's y1 is a number, this is nan"),
        (lambda: Box(0, 0, 1, 1, 2), "A box has the strength 2"),
        (lambda: Stroke([], 0.1), r"points are \[\], expected a list of at least one \[x, y\]"),
        (lambda: Stroke("ab", 0.1), "points are 'ab', expected a list"),
        (lambda: Stroke([[0, 0, 0]], 0.1), r"point of a stroke is \[0, 0, 0\], expected \[x, y\]"),
        (lambda: Stroke([[0, 2]], 0.1), "A stroke lies at x 0, y 2, outside the picture"),
        (lambda: Stroke([[0, "a"]], 0.1), "stroke's y is a number, this is 'a'"),
        (lambda: Stroke([[0, 0]], 0), "A stroke has the radius 0; a radius is over 0"),
        (lambda: Stroke([[0, 0]] * (MAX_POINTS + 1), 1), "2001 points of strokes are more than"),
    ],
)
def test_a_box_and_a_stroke_say_what_is_wrong_with_them(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dots": []}, "no dot and no mask"),
        ({"dots": [Dot(0.5, 0.5, 0.1)] * (MAX_SHAPES + 1)}, "1001 dots are more than"),
        ({"dots": [Box(0, 0, 1, 1)] * (MAX_SHAPES + 1)}, "1001 shapes are more than"),
        ({"dots": [Stroke([[0, 0]] * 1001, 1)] * 2}, "2002 points of strokes are more than"),
        ({"dots": [Box(0, 0, 1, 1, 0)]}, "The boxes have the strength 0"),
        ({"combine": "mean"}, "no `combine` 'mean'. Choose max, sum, screen"),
        ({"floor": 1.5}, "floor is the weight of what no dot reaches, 0 to 1; this is 1.5"),
        ({"floor": math.nan}, "floor is the weight"),
        ({"rows": 0}, "rows and columns and at most .*this is 0 x 6"),
        ({"mask": torch.ones(3, 3)}, r"mask is \[3, 3\], the token grid 4 x 6.*resample_mask"),
        ({"dots": [Dot(0.6, 0.6, 0.01)]}, r"radius, 0\.01, reaches 0\.04 tokens"),
        ({"dots": [Dot(0.5, 0.5, 1, -1)]}, "All dots are negative; set floor to 1"),
        ({"mask": torch.zeros(4, 6)}, "The MASK is black"),
        (
            {"mask": torch.ones(4, 6).to_sparse()},
            "dense tensor .*this one is .*spar",
        ),
        ({"mask": torch.ones(4, 6, device="meta")}, "dense tensor .*this one has no data"),
        ({"mask": torch.full((4, 6), math.nan)}, "holds NaN or Inf"),
        ({"mask": torch.full((4, 6), 2.0)}, "goes from 2 to 2, a mask is 0 to 1"),
    ],
)
def test_bad_settings(change, message):
    settings = {"rows": 4, "cols": 6, "dots": [Dot(0.5, 0.5, 0.5)]} | change
    with pytest.raises(ValueError, match=message):
        radial_mask(**settings)


# --- the JSON text -------------------------------------------------------------------------------


def test_json_there_and_back():
    dots = [Dot(0, 1, 0.3), Dot(0.123456789, 0.5, 2, -0.25)]
    text = write_dots(dots)
    assert json.loads(text)["version"] == 1
    assert parse_dots(text) == dots
    assert parse_dots(write_dots([])) == []


def test_dots_alone_are_written_as_every_release_reads_them():
    text = write_dots([Dot(0.5, 0.25, 0.3)])
    assert text == '{"version": 1, "dots": [{"x": 0.5, "y": 0.25, "radius": 0.3, "strength": 1.0}]}'


def test_boxes_and_strokes_there_and_back():
    shapes = [Dot(0, 1, 0.3), Box(0, 0.1, 0.5, 1, -1), Stroke([[0, 0], [0.5, 1]], 0.1)]
    text = write_dots(shapes)
    assert json.loads(text)["version"] == 2
    assert parse_dots(text) == shapes
    assert count_words(shapes * 2) == "2 dots, 2 boxes, 2 strokes"
    assert parse_dots(write_dots(shapes[::-1])) == shapes  # dots first, then boxes
    assert parse_dots(write_dots(shapes[1:2])) == shapes[1:2]


def test_what_version_one_held_beside_its_dots_is_left_out_as_before():
    text = '{"version": 1, "dots": [], "boxes": [{"x0": 0, "y0": 0, "x1": 1, "y1": 1}]}'
    assert parse_dots(text) == []


@pytest.mark.parametrize("text", ["", "  \n", "[]", '{"dots": []}', '{"version": 1, "dots": []}'])
def test_no_dots(text):
    assert parse_dots(text) == []


def test_a_bare_list_without_strength():
    assert parse_dots('[{"x": 0.5, "y": 1, "radius": 2}]') == [Dot(0.5, 1, 2, 1.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"cannot be read as JSON \(.*line 1 column 2.*Write"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("1" * 5000, "cannot be read as JSON"),
        ("3", "is JSON, but no list of dots"),
        ("{}", "is JSON, but no list of dots"),
        ('{"version": 3, "dots": []}', "has the version 3, this pack reads versions 1 and 2"),
        ('{"version": 2}', "is JSON, but no list of dots"),
        ('{"version": 2, "boxes": 3}', "no list of boxes. Write .*x0"),
        ('{"version": 2, "strokes": {}}', "no list of strokes. Write .*points"),
        ('{"version": 2, "lines": []}', "has 'lines', which version 2 has not"),
        ('{"version": 2, "boxes": [{"x0": 0}]}', "Box 1 of `dots` has no y0. A box is x0, y0, x1"),
        ('{"version": 2, "strokes": [3]}', "Stroke 1 of `dots` is 3, expected points, radius and"),
        (
            '{"version": 2, "strokes": [{"points": [[0, 2]], "radius": 1}]}',
            "Stroke 1 of `dots`: .*y 2, outside",
        ),
        ("[3]", "Dot 1 of `dots` is 3, expected x, y, radius and strength"),
        ('[{"x": 0, "y": 0}]', "Dot 1 of `dots` has no radius"),
        (
            '[{"x": 0, "y": 0, "radius": 1}, {"x": 0, "y": 0, "radius": 1, "r": 2}]',
            "Dot 2 of `dots` has 'r', which no dot has",
        ),
        ('[{"x": NaN, "y": 0, "radius": 1}]', "Dot 1 of `dots`: .*x is a number.*nan"),
        ('[{"x": 0, "y": 1e999, "radius": 1}]', "y is a number, this is inf"),
        ('[{"x": 0, "y": 0, "radius": null}]', "radius is a number, this is None"),
        ('[{"x": 2, "y": 0, "radius": 1}]', "Dot 1 of `dots`: .*x 2, y 0, outside"),
    ],
)
def test_bad_json(text, message):
    with pytest.raises(ValueError, match=message):
        parse_dots(text)


def test_ten_thousand_dots_are_refused_at_once():
    start = time.perf_counter()
    with pytest.raises(ValueError, match="10000 dots are more than `dots` takes .1000."):
        parse_dots(json.dumps([{"x": 2, "y": 0, "radius": 1}] * 10_000))
    assert time.perf_counter() - start < 10


def test_300_thousand_points_are_refused_at_once():
    text = '{"version": 2, "strokes": [{"radius": 1, "points": [' + "[0,0]," * 300_000 + "[0,0]]}]}"
    start = time.perf_counter()
    with pytest.raises(ValueError, match="300001 points of strokes are more than .* .2000."):
        parse_dots(text)
    assert time.perf_counter() - start < 10
