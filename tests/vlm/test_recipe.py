"""Recipes: the same defaults as the command line's, and bad values refused before a model loads."""

import dataclasses

import pytest

from vlm import cli
from vlm.batch.recipe import Recipe, notes_of


def test_defaults_are_those_of_the_command_line():
    options = cli.make_parser().parse_args(["encode", "--model", "m", "--out", "o"])
    for field in dataclasses.fields(Recipe):
        own = {"text": None, "image": [], "audio": [], "conversation": None}  # files, or not given
        expected = own.get(field.name, getattr(Recipe(), field.name))
        assert getattr(options, field.name) == expected, field.name


BAD = [
    ({"target": "sdxl"}, "--target is 'sdxl', expected one of z-image"),
    ({"template": "none"}, "--template is 'none'"),
    ({"combine": "sum"}, "--combine is 'sum', expected one of single"),
    ({"normalize": "yes"}, "--normalize is 'yes', expected one of none, auto"),
    ({"blend": "add"}, "--blend is 'add'"),
    ({"schedule": "cosine"}, "--schedule is 'cosine'"),
    ({"fps": 0}, "--fps is 0, expected a number above 0"),
    ({"fps": float("nan")}, "--fps is nan"),
    ({"min_pixels": -1}, "--min-pixels is -1"),
    ({"alpha": 1.5}, "--alpha is the picture's share"),
    ({"alpha": float("nan")}, "--alpha is the picture's share"),
    ({"weight": -0.1}, "--weight is the share of per_dim"),
    ({"clip_sigma": -1}, "--clip-sigma is -1, expected 0"),
    ({"clip_sigma": float("inf")}, "--clip-sigma is inf"),
    ({"keep": "picture"}, "`keep` has no role 'picture'"),
    ({"layers": "two"}, "no choice of layers"),
    ({"layers": "-2", "combine": "weighted"}, "has no weight"),
    ({"reference_layers": "1:2:3:4"}, "no choice of layers"),
]


@pytest.mark.parametrize(("given", "says"), BAD, ids=[says for _, says in BAD])
def test_bad_values(given, says):
    with pytest.raises(ValueError, match=says):
        Recipe(text="a", **given)


def test_nothing_to_encode():
    with pytest.raises(ValueError, match="nothing to encode"):
        Recipe().need_prompt()
    for recipe in (Recipe(text="a"), Recipe(image=("a.png",)), Recipe(video="frames")):
        recipe.need_prompt()


def test_notes_name_files_without_their_places():
    recipe = Recipe(image=("/data/a.png", "b/c.png"), video="/data/frames", stats="/s.safetensors")
    notes = notes_of(recipe, "model", "auto")
    assert notes["images"] == ["a.png", "c.png"] and "image" not in notes
    assert (notes["video"], notes["stats"]) == ("frames", "s.safetensors")
    assert notes_of(Recipe(), "model", "auto")["video"] is None
