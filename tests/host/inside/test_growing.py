"""Inputs that grow: what the API gives in another shape is refused, on each node that has some."""

from __future__ import annotations

import inspect

import pytest


def growing():
    """Node, and the name and the prefix of each of its inputs that grow."""
    from comfy_api.latest import io
    from pack.nodes import NODES

    return [
        (node, each.id, each.template.prefix)
        for node in NODES
        for each in node.define_schema().inputs
        if isinstance(each, io.Autogrow.Input)
    ]


def test_there_are_some_and_their_nodes_see_every_key():
    found = growing()
    assert {"VLMCEncode", "VLMCRewrite", "VLMCReferenceStats"} <= {
        node.define_schema().node_id for node, _, _ in found
    }
    for node, name, _ in found:
        assert node.define_schema().accept_all_inputs
        assert name in inspect.getfullargspec(node.validate_inputs).args


def test_another_shape_is_refused_when_queued():
    for node, name, one in growing():
        needed = [
            word
            for word, each in inspect.signature(node.validate_inputs).parameters.items()
            if each.default is inspect.Parameter.empty
        ]
        others = dict.fromkeys(needed)  # over wires
        for good in (None, {}, {f"{one}0": None}):
            assert node.validate_inputs(**others, **{name: good}) is True
        for wrong in ({f"{one}0": ["5", 0]}, [["5", 0]], "a.png", 5):
            said = node.validate_inputs(**others, **{name: wrong})
            assert f'"{name}.{one}0": [node id, output]' in said


def test_another_key_is_refused_when_it_runs():
    for node, name, one in growing():
        for key in (one, f"{one}7", f"{name}.{one}99", f"{one}_0", one.title()):
            if key in {each.id for each in node.define_schema().inputs}:
                continue
            with pytest.raises(TypeError, match=f"{name}.{one}0"):
                node.execute(**{key: None})
