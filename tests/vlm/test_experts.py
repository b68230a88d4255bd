"""The two layouts of fused experts."""

import pytest

from vlm.weights.experts import as_published, find_turned, has_outputs_first

NAME = "language_model.layers.{}.mlp.experts.{}"


def shapes(width, inner, outputs_first, layers=2, count=4):
    """Of a model's experts, and of a tensor that is none."""
    pair = {"gate_up_proj": (2 * inner, width), "down_proj": (width, inner)}
    found = {"language_model.norm.weight": (width,)}
    for layer in range(layers):
        for part, (out, into) in pair.items():
            axes = (out, into) if outputs_first else (into, out)
            found[NAME.format(layer, part)] = (count, *axes)
    return found


# One of the two weights is square in the last three.
SIZES = [(64, 48), (2048, 768), (4096, 1536), (96, 48), (48, 48), (64, 32)]


@pytest.mark.parametrize("width, inner", SIZES)
@pytest.mark.parametrize("outputs_first", [True, False])
def test_the_layout_shows_in_the_shapes(width, inner, outputs_first):
    found = shapes(width, inner, outputs_first)
    pair = (found[NAME.format(0, part)] for part in ("gate_up_proj", "down_proj"))
    assert has_outputs_first(*pair) is outputs_first


@pytest.mark.parametrize("width, inner", SIZES)
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_turned_are_those_of_the_other_layout(width, inner, stored, wanted):
    files, model = shapes(width, inner, stored), shapes(width, inner, wanted)
    found = find_turned(files, model)
    experts = [name for name in model if "experts" in name]
    assert sorted(found) == (sorted(experts) if stored != wanted else [])


@pytest.mark.parametrize("width, inner", SIZES)
@pytest.mark.parametrize("outputs_first", [True, False])
def test_as_published_has_the_inputs_first(width, inner, outputs_first):
    found = shapes(width, inner, outputs_first)
    assert as_published(found) == shapes(width, inner, False)


def test_what_is_missing_or_no_pair_is_left_to_the_check():
    model = shapes(64, 48, True)
    files = shapes(64, 48, False)
    del files[NAME.format(0, "down_proj")]
    files[NAME.format(1, "gate_up_proj")] = (64, 96)
    assert find_turned(files, model) == []
    assert find_turned({}, {"layers.0.mlp.up_proj.weight": (4, 4)}) == []
