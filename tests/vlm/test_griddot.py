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
from vlm.tokens.griddot import COMBINE, MAX_DOTS, Dot, parse_dots, radial_mask, write_dots
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


def by_hand(rows, cols, dots, combine, floor):
    """The weights after the text of the formula, token by token."""

    def reach(dot, row, col):
        distance = math.dist((dot.x * cols, dot.y * rows), (col, row))
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
    dots = [Dot(rng.random(), rng.random(), 0.1, 0.5) for _ in range(MAX_DOTS)]
    start = time.perf_counter()
    assert radial_mask(64, 64, dots).max() <= 0.5
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
    ("change", "message"),
    [
        ({"dots": []}, "no dot and no mask"),
        ({"dots": [Dot(0.5, 0.5, 0.1)] * (MAX_DOTS + 1)}, "1001 dots are more than"),
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
        ('{"version": 2, "dots": []}', "has the version 2, this pack reads version 1"),
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
