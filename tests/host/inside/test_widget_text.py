"""Widgets filled over the HTTP API with what no person types: a sentence before anything runs."""

from __future__ import annotations

import pytest

BOUND = 700  # characters of a sentence, whatever it refuses


@pytest.mark.parametrize("depth", ["--2", "+-1", "²", "٣", "9" * 5000, "", "1e3", [2], 2.5, {}])
def test_depth(depth):
    from pack.nodes.encode import VLMEncode

    said = VLMEncode.validate_inputs(depth=depth)
    assert said.startswith("depth is ") and "write auto or a layer index" in said
    assert len(said) < BOUND


@pytest.mark.parametrize("depth", ["auto", " auto ", "-2", "+3", "20", None])
def test_a_depth_that_can_be_read(depth):
    from pack.nodes.encode import VLMEncode

    assert VLMEncode.validate_inputs(depth=depth) is True


@pytest.mark.parametrize("images", ["²", "1,²", "9" * 5000, "-1", "0 1", [0], 5])
def test_images(images):
    from pack.nodes.tokens import TokenFilter

    said = TokenFilter.validate_inputs(images=images)
    assert said.startswith("images is ") and len(said) < BOUND


@pytest.mark.parametrize("images", ["", "0", "0, 2", ",1,", None])
def test_images_that_can_be_read(images):
    from pack.nodes.tokens import TokenFilter

    assert TokenFilter.validate_inputs(images=images) is True


TEXTS = [
    ("select", "HiddenLayerSelect", {}, "layers"),
    ("inspect", "InspectTokens", {}, "layer"),
    ("lap", "LAPPool", {"strengths": ""}, "layers"),
    ("lap", "LAPPool", {"layers": "auto"}, "strengths"),
    ("influence", "ImageInfluence", {}, "strengths"),
    ("files", "SaveConditioning", {}, "name"),
    ("stats", "ReferenceStats", {}, "save_as"),
    ("sweep", "ConditioningSweep", {"axis_1": "alpha"}, "values_1"),
    ("tokens", "TokenFilter", {}, "roles"),
]


@pytest.mark.parametrize("value", [[9, 18, 27], 5, {"a": 1}, True], ids=repr)
@pytest.mark.parametrize(("module", "name", "others", "widget"), TEXTS)
def test_other_kinds_in_the_place_of_text(module, name, others, widget, value):
    import importlib

    node = getattr(importlib.import_module(f"pack.nodes.{module}"), name)
    said = node.validate_inputs(**others, **{widget: value})
    assert isinstance(said, str) and said.startswith(f"{widget} is ") and len(said) < BOUND


LONG = {
    "layers": ("all," * 250_000, "2:36:3," * 150_000, "1" * 1_000_000, "[" * 1_000_000),
    "names": ("a" * 1_000_000, "a/" * 500_000, "../" * 300_000, "\ud800" * 500_000),
    "numbers": ("0," * 500_000, "1;" * 500_000, "1:0.5," * 150_000, "-" * 1_000_000),
}


@pytest.mark.parametrize("kind", LONG)
def test_a_megabyte_of_text_is_refused_at_once(kind):
    """On every widget that is checked when a prompt is queued, whatever stands in it."""
    import inspect
    import time

    from pack.nodes import NODES

    checked, wrong = 0, []
    for node in NODES:
        check = vars(node).get("validate_inputs")
        if check is None:
            continue
        arguments = inspect.signature(node.validate_inputs).parameters
        needed = [
            name for name, each in arguments.items() if each.default is inspect.Parameter.empty
        ]
        for name in arguments:
            if name in ("images", "conditionings", "rows", "cols") or name.endswith("_percent"):
                continue
            for text in LONG[kind]:
                given = {**dict.fromkeys(needed), name: text}
                if name.startswith("values"):
                    given |= {"axis_1": "alpha", "values_1": "0", name: text}
                start = time.process_time()
                said = node.validate_inputs(**given)
                took = time.process_time() - start
                if took > 0.1 or (said is not True and len(said) > BOUND):
                    wrong.append((node.__name__, name, text[:9], took))
                checked += 1
    assert checked > 40 and not wrong, wrong
