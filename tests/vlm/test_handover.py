"""Hand-over in time: which conditioning acts at which part of the schedule."""

import pytest
import torch

from vlm.conditioning.entries import Entry, read_entries, write_entries
from vlm.conditioning.handover import hand_over
from vlm.token_map import read_map
from vlm.tokens.tokens import Tokens


def entry(who, **options):
    return Entry(Tokens(torch.randn(1, 3, 8)), {"who": who, **options})


def ranged(who, start, end):
    return entry(who, start_percent=start, end_percent=end)


def acting(entries, percent):
    """Who acts at a point of the schedule, as ComfyUI's sampler decides: both ends included."""
    return [e.options["who"] for e in entries if e.span[0] <= percent <= e.span[1]]


@pytest.mark.parametrize("percent", [0.1, 0.3, 0.5, 0.999])
def test_each_has_its_part_and_the_edge_is_shared(percent):
    kept = hand_over([entry("picture")], [entry("text")], percent)
    assert [e.options["who"] for e in kept] == ["picture", "text"]
    assert kept[0].span == (0.0, percent)
    assert kept[1].span == (percent, 1.0)
    for at in [0.0, percent / 2, percent - 1e-9]:
        assert acting(kept, at) == ["picture"]
    assert acting(kept, percent) == ["picture", "text"]
    for at in [percent + 1e-9, (1 + percent) / 2, 1.0]:
        assert acting(kept, at) == ["text"]


def test_no_step_is_left_without_either():
    """Rounding moves a step a little to either side of the edge; a gap there would lose it."""
    steps = 20
    for k in range(1, steps):
        kept = hand_over([entry("picture")], [entry("text")], k / steps)
        for nudge in (-1e-7, 0.0, 1e-7):
            assert acting(kept, k / steps + nudge)


def test_the_ends():
    picture, text = [entry("picture")], [entry("text")]
    assert hand_over(picture, text, 0.0) == text
    assert hand_over(picture, text, 1.0) == picture
    assert hand_over(picture, text, 0) is not text


@pytest.mark.parametrize("percent", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_that_cannot_be(percent):
    with pytest.raises(ValueError, match="percent is .*0 to 1"):
        hand_over([entry("picture")], [entry("text")], percent)


def test_ranges_are_cut_not_widened():
    first = [ranged("a", 0.0, 0.2), ranged("b", 0.2, 0.8)]
    second = [ranged("c", 0.1, 0.4), ranged("d", 0.7, 1.0)]
    kept = hand_over(first, second, 0.5)
    assert [(e.options["who"], e.span) for e in kept] == [
        ("a", (0.0, 0.2)), ("b", (0.2, 0.5)), ("d", (0.7, 1.0)),
    ]  # fmt: skip
    assert first[1].span == (0.2, 0.8)


def test_all_entries_of_a_combined_conditioning_take_part():
    kept = hand_over([entry("a"), entry("b")], [entry("c"), entry("d")], 0.4)
    assert acting(kept, 0.2) == ["a", "b"]
    assert acting(kept, 0.6) == ["c", "d"]


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match="Nothing is left.*40%.*`hand_over`"):
        hand_over([ranged("a", 0.5, 1.0)], [ranged("b", 0.0, 0.3)], 0.4)


def test_options_and_maps_stay(tiny):
    import vlm

    t = vlm.select_layers(tiny("qwen3_vl", 2).encode("a"), "-1")
    kept = hand_over([Entry(t, {"pooled_output": 1})], [entry("text")], 0.3)
    written = write_entries(kept)
    assert written[0][1]["pooled_output"] == 1
    assert read_map(written[0][1]["vlm_tokens"], t.n) == t.token_map
    assert "vlm_tokens" not in written[1][1]
    again = read_entries(written, "conditioning")
    assert [e.span for e in again] == [(0.0, 0.3), (0.3, 1.0)]
    later = hand_over(again[:1], [entry("late")], 0.1)  # a second hand-over behind the first
    assert [e.span for e in later] == [(0.0, 0.1), (0.1, 1.0)]
