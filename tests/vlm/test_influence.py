"""Image influence: 1 changes nothing, 0 takes the image away, and each image has its own."""

import pytest
import torch
from rounding import rounding

import vlm
from vlm.conditioning.influence import image_influence, parse_image_strengths

TEXT = "a red house by the river"


@pytest.fixture
def two(picture):
    return [picture(90, 150, 1), picture(64, 64, 2)]


def states_of(entries):
    return entries[0].tokens.states


def test_one_is_the_prompt_bit_for_bit(v, two):
    made, plain = image_influence(v, TEXT, two, [1.0, 1.0], target="krea2")
    v.prefix_cache.clear()  # so that the same kernels see the same shapes
    usual = vlm.select_layers(v.encode(TEXT, two, target="krea2"))
    assert torch.equal(states_of(made), usual.states)
    assert torch.equal(states_of(plain), usual.states)
    assert made[0].tokens.token_map == usual.token_map


def test_zero_is_the_prompt_with_the_image_muted(v, two, err):
    made, _ = image_influence(v, TEXT, two, [1.0, 0.0], target="z-image")
    muted = vlm.select_layers(v.encode(TEXT, two, mute=[1], target="z-image"))
    assert err(states_of(made), muted.states) < rounding()


def test_strengths_add_up(v, two, err):
    def made(*strengths):
        return states_of(image_influence(v, TEXT, two, strengths, target="z-image")[0])

    plain, first, second = made(1, 1), made(0, 1), made(1, 0)
    both = plain + 0.5 * (plain - first) - 0.25 * (plain - second)
    assert err(made(1.5, 0.75), both) < rounding()
    assert err(made(0.5), plain - 0.5 * (plain - first) - 0.5 * (plain - second)) < rounding()
    assert (plain - first).abs().max() > 1e-3 and (plain - second).abs().max() > 1e-3


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_picture_is_looked_at_once(v, picture, watch, count):
    pictures = [picture(64, 64, seed) for seed in range(count)]
    seen = watch(v)
    image_influence(v, TEXT, pictures, [1.1], target="z-image")
    assert seen.pictures == count


@pytest.mark.parametrize("strength", [1.02, 1.1, 0.98])
def test_a_small_influence_is_not_lost_in_bfloat16(tiny_folder, two, strength):
    model = vlm.load(tiny_folder(layers=8), dtype="bfloat16")
    (made,), (plain,) = image_influence(model, TEXT, two[:1], [strength], target="chat")
    muted = vlm.select_layers(model.encode(TEXT, two[:1], target="chat", mute=[0]))
    whole = plain.tokens.states.float()
    added = (strength - 1) * (whole - muted.states.float())
    assert made.tokens.states.dtype == torch.float32
    assert (made.tokens.states - whole - added).norm() < 1e-3 * added.norm()


def test_muting_an_image_leaves_what_stands_before_it(v, two):
    seen = v.encode(TEXT, two, depth=12).layer(12)
    muted = v.encode(TEXT, two, mute=[1], depth=12)
    first = muted.token_map["image"].index(1)
    states = muted.layer(12)
    assert muted.token_map == v.encode(TEXT, two).token_map
    assert torch.equal(states[:, :first], seen[:, :first])
    assert not torch.allclose(states[:, first + 1 :], seen[:, first + 1 :], atol=1e-3)


def test_a_muted_image_is_not_looked_at(v, two, err):
    """Its pixels do not matter, and no cache takes one for the other."""
    other = [two[0], two[0].resize(two[1].size)]
    states = []
    for images in (two, other):
        v.prefix_cache.clear()  # a known beginning would change the shapes, and with them rounding
        states.append(v.encode(TEXT, images, mute=[1], depth=4).layer(4))
    one, another = states
    assert torch.equal(one, another)
    assert err(v.encode(TEXT, two, mute=[1], depth=4).layer(4), one) <= rounding(4)
    assert not torch.equal(one, v.encode(TEXT, two, depth=4).layer(4))


def test_bad_input(v, two):
    with pytest.raises(ValueError, match="no image to weigh"):
        image_influence(v, TEXT, [], [1.0], target="z-image")
    with pytest.raises(ValueError, match="2 images and 3 strengths"):
        image_influence(v, TEXT, two, [1.0, 0.5, 0.2], target="z-image")
    for text in ("", "1,", "1;2", "much"):
        with pytest.raises(ValueError, match="expected numbers between commas"):
            parse_image_strengths(text)
    assert parse_image_strengths(" 1, 0.5 ,-2") == [1.0, 0.5, -2.0]
