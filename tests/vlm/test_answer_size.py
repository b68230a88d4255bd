"""Ratio and size out of an answer in JSON."""

import json

import pytest

from vlm.prompts.answer_size import find_object, prompt_of, size_of

START = (832, 1216)


def size(answer, megapixels=1.0):
    """Width, height and whether the answer named them."""
    found = size_of(answer, *START, megapixels)
    return found.width, found.height, found.found


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({"ratio": "16:9"}, (1360, 768)),
        ({"ratio": "9:16"}, (768, 1360)),
        ({"aspect_ratio": "1:1"}, (1024, 1024)),
        ({"Aspect Ratio": "landscape, 4:3"}, (1184, 880)),
        ({"aspectRatio": "3 / 2"}, (1248, 832)),
        ({"ratio": "16：9"}, (1360, 768)),
        ({"ratio": 1.5}, (1248, 832)),
        ({"ratio": "1.5"}, (1248, 832)),
        ({"ratio": [16, 9]}, (1360, 768)),
        ({"size": "16:9"}, (1360, 768)),
        ({"size": "512x768"}, (512, 768)),
        ({"size": "500 × 700 px"}, (496, 704)),
        ({"resolution": "1328*1328"}, (1024, 1024)),
        ({"size": {"width": 640, "height": 480}}, (640, 480)),
        ({"width": 640, "height": "480"}, (640, 480)),
        ({"size": "512x512", "ratio": "16:9"}, (512, 512)),
        ({"ratio": "16:9", "size": ""}, (1360, 768)),
        ({"prompt": "a house", "image": {"ratio": "1:2"}}, (720, 1456)),
        ({"size": "1e9x1e9"}, (1024, 1024)),
        ({"size": [1e308, 1e308]}, (1024, 1024)),
    ],
)
def test_what_an_answer_names(fields, want):
    assert size(json.dumps(fields, ensure_ascii=False)) == (*want, True)


@pytest.mark.parametrize(
    "value",
    ["0:1", "1:0", "-1:1", "square", "1000:1", "1:1000", "1e999:1", True, [1, 2, 3],
     [None, 1], {"width": 3}, {"a": 1}, "nan:1", "9" * 5000 + ":1", 0],
)  # fmt: skip
def test_what_nobody_could_mean(value):
    found = size_of(json.dumps({"ratio": value}), *START)
    assert (found.width, found.height, found.found) == (*START, False)
    assert found.source.startswith("ratio ") and len(found.source) < 60


@pytest.mark.parametrize(
    "answer",
    ["a red house, 16:9", "", "{", "{" * 100_000, '{"ratio": "16:9"', "[1, 2]", "{}", '{"a": 1}',
     '{"ratio": ' + "1" * 5000 + "}", '{"ratio": NaN}', "```json\n```"],
)  # fmt: skip
def test_no_size_in_it(answer):
    assert size(answer) == (*START, False)
    assert prompt_of(answer) == answer


def test_an_object_between_other_words():
    answer = 'Sure {here}:\n```json\n{"prompt": " a house ", "ratio": "3:2"}\n```\nEnjoy {it}!'
    assert find_object(answer) == {"prompt": " a house ", "ratio": "3:2"}
    assert size(answer) == (1248, 832, True) and prompt_of(answer) == "a house"


@pytest.mark.parametrize("megapixels", [0.25, 1.0, 2.5, 4.0])
@pytest.mark.parametrize("ratio", ["1:1", "16:9", "2:3", "21:9", "1:4"])
def test_a_ratio_keeps_its_shape_and_the_area(ratio, megapixels):
    wide, high = (int(side) for side in ratio.split(":"))
    found = size_of(json.dumps({"ratio": ratio}), *START, megapixels)
    assert found.width % 16 == found.height % 16 == 0
    assert abs(found.width / found.height / (wide / high) - 1) < 0.05
    assert abs(found.width * found.height / (megapixels * 1024**2) - 1) < 0.05
