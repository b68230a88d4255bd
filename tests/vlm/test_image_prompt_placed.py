"""Image prompt with pictures where the words name them."""

import numpy as np
import pytest
import torch

import vlm
from vlm.conditioning.image_prompt import image_prompt
from vlm.pictures.reference import PictureReference

NAMED = "<image2> by a river, like <image1> at dusk"


@pytest.fixture
def v(tiny):
    return tiny("qwen3_vl")


@pytest.fixture
def image(picture):
    def draw(height=96, width=128, seed=1):
        return torch.from_numpy(np.asarray(picture(height, width, seed), np.float32) / 255)

    return draw


def test_a_picture_that_does_not_count_loses_its_name(v, image):
    """In each share of the prediction the words name the pictures that are in it."""
    first, second = image(seed=1), image(64, 64, seed=2)
    entries = image_prompt(
        NAMED, [PictureReference(first), PictureReference(second, 0.5)],
        target="krea2", model=v, placed=True,
    ).entries  # fmt: skip
    both, alone = (entry.tokens for entry in entries)
    want = v.encode(NAMED, [first, second], target="krea2", placed=True)
    assert torch.equal(both.states, vlm.select_layers(want).states.float())
    left = v.encode("by a river, like <image1> at dusk", [first], target="krea2", placed=True)
    assert alone.token_map == vlm.select_layers(left).token_map
    assert vlm.select_layers(left).n == alone.n


def test_blended_pictures_are_looked_at_by_their_names_and_the_words_have_none(v, image):
    first, second = image(seed=1), image(64, 64, seed=2)
    made = image_prompt(
        NAMED, [PictureReference(first), PictureReference(second)],
        target="z-image", model=v, placed=True,
    )  # fmt: skip
    words = vlm.select_layers(v.encode("by a river, like at dusk", target="z-image"))
    assert made.entries[0].tokens.n == words.n
    plain = image_prompt("by a river, like at dusk", target="z-image", model=v)
    assert made.steps[0] == plain.steps[0]


def test_tiles_stand_side_by_side_in_place_of_a_name(v, image):
    reference = PictureReference(image(), tiles=True)
    entry = image_prompt("a <image1> b", [reference], target="krea2", model=v, placed=True)
    seen = [n for n in entry.entries[0].tokens.token_map["image"] if n >= 0]
    assert list(dict.fromkeys(seen)) == [0, 1, 2, 3, 4]


def test_names_of_pictures_that_the_chain_has_not(v, image):
    with pytest.raises(ValueError, match="name <image3>, and one picture comes"):
        image_prompt(
            "<image3>", [PictureReference(image())], target="z-image", model=v, placed=True
        )
    with pytest.raises(ValueError, match="no picture comes"):
        image_prompt("<image1>", target="z-image", model=v, placed=True)
    words = image_prompt("<image1>", target="qwen-image-2.1", model=v, placed=True)
    assert words.entries[0].tokens.token_map["role"].count("text") > 1  # there it is a word
