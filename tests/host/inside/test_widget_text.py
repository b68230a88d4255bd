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
