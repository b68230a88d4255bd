"""Recipes: TOML, options over it, the built-in ones, and what is refused."""

import pytest

from vlm.train.built_in import BUILT_IN
from vlm.train.recipe import TrainRecipe, keys
from vlm.train.recipe_file import built_in_recipe, read_recipe, write_recipe


def toml(folder, text):
    file = folder / "recipe.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_recipe_is_written_and_read_again(tmp_path, name):
    text = built_in_recipe(name)
    assert read_recipe(toml(tmp_path, text)) == BUILT_IN[name].recipe
    assert read_recipe(name) == BUILT_IN[name].recipe
    assert text.startswith("# " + BUILT_IN[name].note[:20])
    assert max(map(len, text.splitlines())) <= 120


def test_every_key_is_written_with_what_it_means():
    lines = write_recipe(TrainRecipe()).splitlines()
    for key in keys():
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{key.name} = "))
        assert lines[at - 1].startswith("# ") and len(key.metadata["help"]) > 10


def test_letters_of_every_kind_come_back(tmp_path):
    recipe = TrainRecipe(licence='"quoted" \\ back 日本語 🎨\nline\ttab', captions="c:\\new\\x.txt")
    assert read_recipe(toml(tmp_path, write_recipe(recipe))) == recipe


def test_options_hold_instead_of_the_file(tmp_path):
    file = toml(tmp_path, 'steps = 5\nlr = 1\ntarget = "z-image"\n')
    assert read_recipe(file) == TrainRecipe(steps=5, lr=1.0)
    assert read_recipe(file, {"steps": 7}) == TrainRecipe(steps=7, lr=1.0)
    assert read_recipe("tiny", {"steps": 7}).steps == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepps = 5", "nobody knows the key 'stepps'. Did you mean steps?"),
        ('steps = "5"', "steps is '5', expected a whole number"),
        ("steps = true", "steps is True, expected a whole number"),
        ("steps = 5.0", "steps is 5.0, expected a whole number"),
        ("captions = 5", "captions is 5, expected text"),
        ("stream = 1", "stream is 1, expected true or false"),
        ("steps = 0", "steps is 0, expected a number from 1"),
        ("lr = -1", "lr is -1.0, expected a number from 0"),
        ("lr = nan", "lr is nan"),
        ('connector = "lora"', "connector is 'lora', expected one of linear"),
        ('target = "sd15"', "target is 'sd15', expected one of z-image"),
        ("steps =", "recipe.toml is no TOML"),
        ("[table]\nx = 1", "nobody knows the key 'table'"),
    ],
)
def test_refuses(tmp_path, text, said):
    with pytest.raises(ValueError) as error:
        read_recipe(toml(tmp_path, text))
    assert said in str(error.value)


def test_a_recipe_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"Did you mean tiny\?"):
        read_recipe("tini")
    with pytest.raises(FileNotFoundError, match="one of those built in: tiny"):
        read_recipe("nowhere.toml")
    with pytest.raises(ValueError, match="Did you mean qwen3vl-zimage-lap"):
        built_in_recipe("qwen3vl-zimage-lab")


def test_places_that_are_needed():
    with pytest.raises(ValueError, match="captions is empty: file or folder"):
        TrainRecipe().need_places()
