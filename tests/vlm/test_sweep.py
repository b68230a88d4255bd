"""Sweeps: values as people write them, every combination beside its separate steps, one run."""

import numpy as np
import pytest
import torch

import vlm
from vlm.conditioning.entries import Entry
from vlm.conditioning.image_prompt_ways import on_the_wire
from vlm.conditioning.sweep import sweep
from vlm.conditioning.sweep_values import AXES, Axis, Steps, combine, parse_axis

PICTURE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return vlm.load("tiny")


@pytest.fixture(scope="module")
def text(model):
    states = torch.randn(1, 12, model.backbone.width, generator=torch.Generator().manual_seed(1))
    return [Entry(vlm.Tokens(states), {"whose": "text"})]


def encoded(model):
    return model.encode("a swept house", images=[PICTURE], target="z-image")


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written", "values"),
    [
        ("alpha", "0, .15,0.30, 0.3", (0.0, 0.15, 0.3)),
        ("layer", "-2, auto", ("-2", "auto")),
        ("layer", "-8; -2:0.7, -8:0.3; 2:9:3", ("-8", "-2:0.7, -8:0.3", "2:9:3")),
        ("pool", "64, 0", (64, 0)),
        ("keep", "text, image+markers", ("text", "image+markers")),
        ("outliers", "off,clamp,", ("off", "clamp")),
    ],
)
def test_values_as_they_are_written(name, written, values):
    assert parse_axis(name, written) == Axis(name, values)


@pytest.mark.parametrize(
    ("name", "written", "part"),
    [
        ("alpha", "", "has no values. Write some, such as 0, 0.15"),
        ("alpha", " , ,", "has no values"),
        ("alpha", "0, a lot", "'a lot' is no value of the axis alpha: it takes numbers"),
        ("alpha", "1.5", "numbers from 0 to 1"),
        ("strength", "nan", "numbers from 0 to 1"),
        ("pool", "-4", "whole numbers"),
        ("pool", "²", "whole numbers"),
        ("pool", "9" * 5000, "whole numbers"),
        ("alpha", "9" * 5000, "numbers from 0 to 1"),
        ("layer", "9" * 5000, "is no value of the axis layer"),
        ("keep", "everything", "some of all, text"),
        ("layer", "-2, <b>", "is no value of the axis layer"),
        ("speed", "1", "'speed' is no axis of a sweep. Choose one of: layer"),
    ],
)  # fmt: skip
def test_values_that_are_none(name, written, part):
    with pytest.raises(ValueError) as caught:
        parse_axis(name, written)
    assert part in str(caught.value)


def test_combinations_come_row_by_row():
    made = combine(Steps(keep="all"), [Axis("alpha", (0.0, 0.3)), Axis("layer", ("-2", "-8"))])
    assert [each.names for each in made] == [
        ("alpha 0", "layer -2"), ("alpha 0.3", "layer -2"),
        ("alpha 0", "layer -8"), ("alpha 0.3", "layer -8"),
    ]  # fmt: skip
    assert made[1].steps == Steps(alpha=0.3, layer="-2", keep="all")


def test_a_hundred_are_made_and_no_more():
    hundred = ", ".join(str(at / 100) for at in range(100))
    assert len(combine(Steps(), [parse_axis("alpha", hundred)])) == 100
    with pytest.raises(ValueError, match=r"101 combinations \(101 of alpha\).*at most 100"):
        combine(Steps(), [parse_axis("alpha", hundred + ", 1")])
    with pytest.raises(ValueError, match="200 combinations"):
        combine(Steps(), [parse_axis("alpha", hundred), Axis("layer", ("-2", "-8"))])


def test_axes_that_do_not_go_together():
    with pytest.raises(ValueError, match="Both axes of the sweep are alpha"):
        combine(Steps(), [Axis("alpha", (0.1,)), Axis("alpha", (0.2,))])
    with pytest.raises(ValueError, match="one axis or two, these are 0"):
        combine(Steps(), [])


# --- what is made -------------------------------------------------------------------------------

TWO_OF_EACH = {
    "layer": "-2; -2:0.5, -8:0.5",
    "pool": "6, 2",
    "keep": "all, image",
    "normalisation": "global, robust",
    "strength": "0, 0.5",
    "outliers": "zero, clamp",
    "method": "interpolate, concat",
    "alpha": "0, 0.4",
}


@pytest.mark.parametrize("name", AXES)
def test_each_equals_its_separate_steps(model, text, name):
    h, base = encoded(model), Steps(keep="all")
    made = combine(base, [parse_axis(name, TWO_OF_EACH[name])])
    stats = vlm.measure_stats(text[0].tokens)
    results = sweep(h, text, made)
    assert len(results) == 2
    for each, ((entry,),) in zip(made, ([result] for result in results), strict=True):
        s = each.steps
        (got,) = on_the_wire([Entry(vlm.select_layers(h, s.layer), {})], "cpu")
        tokens = vlm.pool_tokens(got.tokens, s.pool) if s.pool else got.tokens
        tokens = vlm.filter_tokens(tokens, s.keep)
        tokens = vlm.normalize(tokens, stats, s.normalisation, strength=s.strength)
        if s.outliers != "off":
            tokens = vlm.mask_outliers(tokens, stats, s.outliers)
        want = vlm.blend(tokens, text[0].tokens, s.alpha, s.method)
        assert torch.equal(entry.tokens.states, want.states)
        assert entry.options == {"whose": "text"}
    first, second = (result[0].tokens.states for result in results)
    if name != "outliers":  # few tokens of a random model have none
        assert first.shape != second.shape or not torch.equal(first, second)


def test_twelve_values_run_the_model_once(model, text):
    """Every layer is run once, whatever the order of the values."""
    calls = []
    layers = list(model.backbone.text.layers)
    hooks = [layer.register_forward_hook(lambda *_: calls.append(1)) for layer in layers]
    axes = [parse_axis("alpha", "0.1, 0.3, 0.5"), parse_axis("layer", "-8, -2, -6, -1")]
    h = encoded(model)
    assert len(sweep(h, text, combine(Steps(), axes))) == 12
    for hook in hooks:
        hook.remove()
    assert len(calls) == len(layers)


def test_pooling_what_is_left_out_is_refused(model, text):
    made = combine(Steps(), [parse_axis("pool", "4, 2")])
    with pytest.raises(ValueError, match="`keep` text leaves them all out. Set `keep` to all"):
        sweep(encoded(model), text, made)


def test_reference_statistics_take_the_texts_place(model, text):
    other = vlm.Tokens(torch.randn(1, 300, model.backbone.width) * 7)
    made = combine(Steps(), [parse_axis("alpha", "0.5")])
    plain, measured = (
        sweep(encoded(model), text, made, stats)[0][0].tokens.states
        for stats in (None, vlm.measure_stats(other))
    )
    assert not torch.equal(plain, measured)
