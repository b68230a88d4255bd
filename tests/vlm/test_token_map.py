"""The token map: written and read as plain data, kept right through take and join."""

import copy
import io
import json
import logging

import numpy as np
import pytest
import torch

from vlm.token_map import ROLES, count_roles, join, map_text, new_map, read_map, take
from vlm.tokens.tokens import Tokens


def two_images() -> dict:
    """template, marker, 2 tokens of image 0, marker, marker, 3 of image 1, marker, 2 text."""
    return new_map(
        roles=["template", "vision_marker", "image", "image", "vision_marker", "vision_marker"]
        + ["image"] * 3
        + ["vision_marker", "text", "text"],
        images=[-1, 0, 0, 0, 0, 1, 1, 1, 1, 1, -1, -1],
        frames=[0] * 12,
        tiles=[0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0],
        rows=[0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0],
        cols=[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        grids=[
            {"image": 0, "frames": 1, "rows": 1, "cols": 2},
            {"image": 1, "frames": 1, "rows": 3, "cols": 1},
        ],
    )


def builtin_types(value: object) -> set[type]:
    if isinstance(value, dict):
        return {dict} | {t for k, v in value.items() for t in builtin_types(k) | builtin_types(v)}
    if isinstance(value, list):
        return {list} | {t for v in value for t in builtin_types(v)}
    return {type(value)}


def test_a_new_map_has_the_agreed_fields_and_only_builtins():
    made = new_map(
        roles=np.array(["image", "text"]),
        images=np.array([0, -1]),
        frames=torch.tensor([1, 0]),
        rows=np.array([2, 0], dtype=np.int32),
        grids=[{"image": np.int64(0), "frames": 2, "rows": 3, "cols": 1}],
    )
    assert made == {
        "version": 1,
        "n": 2,
        "role": ["image", "text"],
        "image": [0, -1],
        "frame": [1, 0],
        "tile": [0, 0],
        "row": [2, 0],
        "col": [0, 0],
        "grids": [{"image": 0, "frames": 2, "rows": 3, "cols": 1}],
    }
    assert builtin_types(made) == {dict, list, str, int}
    assert new_map(["text", "pad"])["image"] == [-1, -1]


def test_the_map_survives_json_and_a_weights_only_load():
    made = two_images()
    assert read_map(json.loads(json.dumps(made)), 12) == made
    file = io.BytesIO()
    torch.save({"vlm_tokens": made}, file)
    file.seek(0)
    assert read_map(torch.load(file, weights_only=True)["vlm_tokens"], 12) == made


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"roles": ["text", "colour"]}, "role 'colour' is unknown"),
        ({"roles": ["text"], "images": [0, 1]}, "'image' has 2 entries for 1 tokens"),
        ({"roles": ["image"]}, "no image number"),
        ({"roles": ["text"], "grids": [{"image": 0, "rows": 2}]}, "expected the numbers"),
    ],
)
def test_a_map_that_is_not_one_cannot_be_written(arguments, words):
    with pytest.raises(ValueError, match=words):
        new_map(**arguments)


def test_a_map_that_fits_is_read_as_it_is(caplog):
    made = two_images()
    assert read_map(made, 12) is made
    assert read_map(None, 12) is None
    assert not caplog.records


def test_a_longer_tensor_gets_unknown_tokens_and_a_warning(caplog):
    made = two_images()
    before = copy.deepcopy(made)
    with caplog.at_level(logging.WARNING):
        read = read_map(made, 15)
    assert read["n"] == 15 and read["role"] == before["role"] + ["unknown"] * 3
    assert read["image"] == before["image"] + [-1] * 3 and read["grids"] == before["grids"]
    assert made == before
    assert "12 tokens" in caplog.text and "15" in caplog.text
    assert "Conditioning (Concat)" in caplog.text and "`blend`" in caplog.text


def test_a_shorter_tensor_drops_the_map_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        assert read_map(two_images(), 11) is None
    assert "dropped" in caplog.text and "`filter_tokens`" in caplog.text


def spoiled(**changes: object) -> dict:
    return {**two_images(), **changes}


@pytest.mark.parametrize(
    ("foreign", "words"),
    [
        ("text", "it is a str"),
        ([1, 2], "it is a list"),
        ({}, "version is None"),
        (spoiled(version=4), "version is 4"),
        (spoiled(version=3), "'audio' has no entries"),
        (spoiled(version=3, audio=[-1] * 12), "'time' has no entries"),
        (spoiled(version=3, audio=[-2] * 12, time=[0] * 12), "'audio' holds -2"),
        (spoiled(version=3, audio=[-1] * 12, time=[-1] * 12), "'time' holds -1"),
        (spoiled(role=["audio"] * 12), "role 'audio' and no sound number"),
        (spoiled(version=2), "'turn' has no entries"),
        (spoiled(turn=["a"] * 12), "'turn' holds something else than int"),
        (spoiled(version=2, turn=[-1] * 12), "'turn' holds -1"),
        (spoiled(n="12"), "its n is '12'"),
        (spoiled(n=True), "its n is True"),
        (spoiled(n=11), "12 entries for 11 tokens"),
        (spoiled(role=["dog"] * 12), "role 'dog' is unknown"),
        (spoiled(role=[0] * 12), "something else than str"),
        (spoiled(row=[0.5] * 12), "something else than int"),
        (spoiled(col=None), "'col' has no entries"),
        (spoiled(image=[-1] * 12), "no image number"),
        (spoiled(grids=None), "no list of grids"),
        (spoiled(grids=[3]), "a grid is 3"),
    ],
)
def test_a_foreign_map_is_dropped_with_a_warning_that_says_why(foreign, words, caplog):
    with caplog.at_level(logging.WARNING):
        assert read_map(foreign, 12) is None
    assert words in caplog.text and "`encode`" in caplog.text


def test_take_keeps_order_places_and_the_grids_of_images_that_remain():
    made = two_images()
    before = copy.deepcopy(made)
    taken = take(made, [11, 8, 7])
    assert taken["role"] == ["text", "image", "image"] and taken["image"] == [-1, 1, 1]
    assert taken["row"] == [0, 2, 1] and taken["n"] == 3
    assert taken["grids"] == [{"image": 1, "frames": 1, "rows": 3, "cols": 1}]
    assert take(made, torch.tensor([6]))["tile"] == [-1]
    assert take(made, [])["role"] == [] and take(made, [])["grids"] == []
    assert take(None, [0]) is None
    assert made == before
    taken["grids"][0]["rows"] = 99
    assert made == before


def test_what_else_a_grid_says_is_left_out():
    grid = {"image": 0, "frames": 1, "rows": 1, "cols": 1}
    made = new_map(["image"], images=[0], grids=[{**grid, "more": [1]}])
    assert made["grids"] == [grid]


def test_join_appends_and_renumbers_the_second_ones_images():
    made = two_images()
    before = copy.deepcopy(made)
    joined = join(made, made)
    assert joined["n"] == 24 and joined["role"] == made["role"] * 2
    assert joined["image"] == made["image"] + [-1, 2, 2, 2, 2, 3, 3, 3, 3, 3, -1, -1]
    assert [grid["image"] for grid in joined["grids"]] == [0, 1, 2, 3]
    assert joined["row"] == made["row"] * 2
    assert made == before and read_map(joined, 24) is joined


def test_join_shifts_past_the_highest_number_even_if_lower_ones_are_gone():
    only_second = take(two_images(), [6, 7])
    assert join(only_second, only_second)["image"] == [1, 1, 3, 3]
    assert join(new_map(["text"]), only_second)["image"] == [-1, 1, 1]
    grid = {"image": 4, "frames": 1, "rows": 1, "cols": 1}
    assert join(new_map(["text"], grids=[grid]), only_second)["image"] == [-1, 6, 6]


def a_sound(turns=None) -> dict:
    """A marker, two tokens of a sound, a marker, a word."""
    roles = ["audio_marker", "audio", "audio", "audio_marker", "text"]
    return new_map(roles, turns=turns, audios=[0, 0, 0, 0, -1], times=[0, 0, 40, 0, 0])


def test_sounds_have_columns_of_their_own_and_a_version():
    sound = a_sound()
    assert sound["version"] == 3 and "turn" not in sound
    assert read_map(map_text(sound), 5) == sound
    assert a_sound(turns=[0, 0, 0, 0, 1])["turn"] == [0, 0, 0, 0, 1]
    words = take(sound, [4])
    assert words["version"] == 1 and not {"audio", "time"} & words.keys()
    assert take(sound, [2, 4])["time"] == [40, 0]


def test_joined_sounds_are_counted_on():
    both = join(a_sound(), join(two_images(), a_sound()))
    assert both["audio"] == [0, 0, 0, 0, -1] + [-1] * 12 + [1, 1, 1, 1, -1]
    assert both["time"] == [0, 0, 40, 0, 0] + [0] * 12 + [0, 0, 40, 0, 0]
    assert both["image"][5:17] == two_images()["image"]
    assert read_map(map_text(both), both["n"]) == both


def test_roles_are_counted_in_a_fixed_order():
    assert list(count_roles(two_images()).items()) == [
        ("template", 1),
        ("vision_marker", 4),
        ("image", 5),
        ("text", 2),
    ]
    every = new_map(reversed(ROLES), images=[0] * len(ROLES), audios=[0] * len(ROLES))
    assert list(count_roles(every)) == list(ROLES)


def test_tokens_refuse_what_is_not_tokens():
    with pytest.raises(ValueError, match=r"\[3, 4\].*unsqueeze\(0\)"):
        Tokens(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="empty"):
        Tokens(torch.zeros(1, 0, 4))
    with pytest.raises(ValueError, match="covers 12 tokens, the tensor has 11"):
        Tokens(torch.zeros(1, 11, 4), two_images())
    with pytest.raises(TypeError, match="floating point"):
        Tokens(torch.zeros(1, 2, 4, dtype=torch.int64))
    with pytest.raises(TypeError, match="list"):
        Tokens([[[1.0]]])


def test_tokens_know_their_sizes():
    t = Tokens(torch.zeros(2, 12, 4, dtype=torch.bfloat16), two_images())
    assert (t.batch, t.n, t.width) == (2, 12, 4)
    other = t.with_states(torch.ones(2, 12, 4))
    assert other.states.dtype == torch.bfloat16 and other.token_map is t.token_map


def test_the_map_is_one_text_on_the_wire():
    made = two_images()
    assert type(map_text(made)) is str and read_map(map_text(made), 12) == made
    assert read_map(made, 12) is made  # a dict of older files


@pytest.mark.parametrize("text", ["", "{", "3", "[" * 100000, map_text(new_map(["text"])) + "x"])
def test_a_text_that_is_no_map_is_ignored_with_a_warning(text, caplog):
    assert read_map(text, 1) is None and "token map" in caplog.text


def put(column, at, value):
    return lambda made: made[column].__setitem__(at, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("image", 2, 5), "image 5, which has no grid"),
        (put("image", 2, -2), "'image' holds -2"),
        (put("col", 3, 2), "grid has 1 x 1 x 2"),
        (put("row", 3, 1), "grid has 1 x 1 x 2"),
        (put("frame", 3, 1), "grid has 1 x 1 x 2"),
        (put("col", 3, -1), "'col' holds -1"),
        (put("tile", 3, -2), "'tile' holds -2"),
        (put("col", 3, 0), "two tokens of image 0"),
        (put("role", 10, "image"), "no image number"),
        (put("role", 0, "picture"), "role 'picture' is unknown"),
        (lambda made: made["grids"].append(made["grids"][0]), "two grids"),
        (lambda made: made["grids"][0].update(cols=0), "sizes from 1"),
        (lambda made: made["grids"][0].update(cols=1), "grid has 1 x 1 x 1"),
        (lambda made: made["grids"].pop(), "image 1, which has no grid"),
        (lambda made: made["grids"][0].update(rows=3, cols=2**31 - 1), "larger than any picture's"),
        (lambda made: made["grids"][0].update(rows=2**12, cols=2**12), "larger than any picture's"),
        (lambda made: made["grids"][0].update(frames=2**40), "larger than any picture's"),
        (lambda made: made["grids"][0].update(rows=10**400), "larger than any picture's"),
        (put("row", 3, 10**400), "'row' holds too large a number"),
        (put("image", 2, 2**31), "'image' holds 2147483648"),
    ],
)
def test_a_map_that_contradicts_itself_is_ignored(change, words, caplog):
    made = copy.deepcopy(two_images())
    change(made)
    assert read_map(map_text(made), 12) is None
    assert words in caplog.text
