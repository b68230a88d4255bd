"""Alpha over the sampling schedule: which alpha acts at which step."""

import pytest
import torch

from vlm.conditioning.entries import Entry, pair
from vlm.conditioning.ramp import MOST_RANGES, alpha_ramp, blend_over_time
from vlm.tokens.alphas import SCHEDULES
from vlm.tokens.blend import blend
from vlm.tokens.tokens import Tokens

NOISE = torch.Generator().manual_seed(3)


def entry(tokens, **options):
    return Entry(Tokens(torch.randn(1, tokens, 8, generator=NOISE)), options)


def acting(steps, at):
    """Alphas at a point of the schedule; both edges included, as ComfyUI's sampler reads them."""
    return [alpha for start, end, alpha in steps if start <= at <= end]


def test_from_one_alpha_to_another():
    steps = alpha_ramp(0.6, 0.0, ranges=4)
    assert [(start, end) for start, end, _ in steps] == [
        (0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)
    ]  # fmt: skip
    assert [alpha for *_, alpha in steps] == pytest.approx([0.6, 0.4, 0.2, 0.0])
    assert steps[0][2] == 0.6 and steps[-1][2] == 0.0


@pytest.mark.parametrize("curve", [curve for curve in SCHEDULES if curve != "constant"])
@pytest.mark.parametrize("ranges", [2, 3, 7, MOST_RANGES])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.2, 0.7), (0.0, 0.3), (0.5, 1.0)])
def test_no_gap_and_exact_at_the_ends(curve, ranges, start, end):
    steps = alpha_ramp(0.5, 0.1, curve, ranges, start, end)
    assert steps[0][0] == 0.0 and steps[-1][1] == 1.0
    assert all(a[1] == b[0] for a, b in zip(steps, steps[1:], strict=False))
    assert all(a[2] > b[2] for a, b in zip(steps, steps[1:], strict=False))
    for at in (0.0, start / 2, start):
        assert acting(steps, at) == [0.5]
    for at in ((1 + end) / 2, 1.0):
        assert acting(steps, at) == [0.1]
    for k in range(1001):
        assert acting(steps, k / 1000)


def test_what_does_not_change_is_one_range():
    assert alpha_ramp(0.3, 0.9, "constant") == [(0.0, 1.0, 0.3)]
    assert alpha_ramp(0.3, 0.3, "linear", 8) == [(0.0, 1.0, 0.3)]


def mix(picture, text, alpha):
    return blend(picture, text, alpha, "pool")


def test_each_range_is_the_blend_with_its_alpha():
    text, picture = entry(5, who="text"), entry(20)
    steps = alpha_ramp(0.6, 0.0, ranges=3)
    made = blend_over_time([(text, picture)], steps, mix)
    assert [each.span for each in made] == [(start, end) for start, end, _ in steps]
    for each, (_, _, alpha) in zip(made, steps, strict=True):
        assert torch.equal(each.tokens.states, mix(picture.tokens, text.tokens, alpha).states)
        assert each.options["who"] == "text"
    assert torch.equal(made[-1].tokens.states, text.tokens.states)


def test_what_it_is_for_the_picture_early_and_the_words_late():
    """The distance from the words falls from range to range, in proportion to alpha."""
    text, picture = entry(5), entry(20)
    made = blend_over_time([(text, picture)], alpha_ramp(0.8, 0.0, ranges=5), mix)
    far = [float((each.tokens.states - text.tokens.states).norm()) for each in made]
    assert far == pytest.approx([far[0] * share for share in (1, 0.75, 0.5, 0.25, 0)], abs=1e-5)


def test_one_range_changes_nothing():
    text, picture = entry(5, start_percent=0.1, end_percent=0.4), entry(20)
    (made,) = blend_over_time([(text, picture)], alpha_ramp(0.3, 0.9, "constant"), mix)
    assert made.options == text.options
    assert torch.equal(made.tokens.states, mix(picture.tokens, text.tokens, 0.3).states)


def test_ranges_that_entries_have_are_cut():
    early, late = entry(5, start_percent=0.0, end_percent=0.4), entry(5, start_percent=0.4)
    pairs = pair([early, late], [entry(20)])
    made = blend_over_time(pairs, alpha_ramp(0.5, 0.0, ranges=2), mix)
    assert [each.span for each in made] == [(0.0, 0.4), (0.4, 0.5), (0.5, 1.0)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"first": 1.5}, "0 to 1, this is 1.5"),
        ({"last": float("nan")}, "0 to 1, this is nan"),
        ({"curve": "steps"}, "no curve 'steps'.*linear"),
        ({"ranges": 1}, "2 to 32 ranges of time, 1 were"),
        ({"ranges": 1000}, "2 to 32 ranges of time, 1000 were"),
        ({"start": 0.5, "end": 0.5}, "from 0.5 to 0.5"),
        ({"start": 0.8, "end": 0.2}, "from 0.8 to 0.2"),
        ({"end": 1.2}, "from 0 to 1.2"),
    ],
)
def test_bad_values(arguments, words):
    with pytest.raises(ValueError, match=words):
        alpha_ramp(**{"first": 0.5, "last": 0.0} | arguments)
