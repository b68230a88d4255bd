"""The targets' rows, as section 5 of the design lists them, and what they ask of a model."""

import pytest
import torch

import vlm
from vlm.prompts.templates import TEMPLATES
from vlm.targets import TARGETS, find_target

TWELVE = (2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35)
THIRTEEN = (1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 36)
# name: (layers, with pictures, combine, width of the CONDITIONING, of one layer, drop)
ROWS = {
    "z-image": ((-2,), (-8,), "single", 2560, 2560, ""),
    "flux2-klein-4b": ((9, 18, 27), (9, 18, 27), "concat", 7680, 2560, ""),
    "flux2-klein-9b": ((9, 18, 27), (9, 18, 27), "concat", 12288, 4096, ""),
    "flux3-klein": (tuple(range(4, 33, 4)), tuple(range(4, 33, 4)), "concat", 20480, 2560, ""),
    "krea2": (TWELVE, TWELVE, "concat", 30720, 2560, "prefix"),
    "krea2-edit": (TWELVE, TWELVE, "concat", 30720, 2560, "prefix"),
    "qwen-image": ((-1,), (-1,), "single", 3584, 3584, "prefix"),
    "qwen-image-edit-plus": ((-1,), (-1,), "single", 3584, 3584, "prefix"),
    "qwen-image-2.1": ((-1,), (-1,), "single", 4096, 4096, "system"),
    "hunyuan-image": ((-3,), (-3,), "single", 3584, 3584, "prefix"),
    "mage-flow": ((-1,), (-1,), "single", 2560, 2560, "prefix"),
    "boogu": ((-1,), (-1,), "single", 4096, 4096, ""),
    "joyimage": ((-1,), (-1,), "single", 4096, 4096, ""),
    "ideogram4": (THIRTEEN, THIRTEEN, "concat", 53248, 4096, ""),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_targets_row(name):
    layers, with_pictures, combine, width, one_layer, drop = ROWS[name]
    target = TARGETS[name]
    assert target.layers_for(images=False) == layers
    assert target.layers_for(images=True) == with_pictures
    assert (target.combine, target.width, target.drop) == (combine, width, drop)
    assert width == one_layer * (len(layers) if combine == "concat" else 1)
    assert target.pooled == 0
    assert target.template in TEMPLATES


def test_what_is_particular():
    assert TARGETS["flux1"].layers is None
    assert (TARGETS["flux1"].width, TARGETS["flux1"].pooled) == (4096, 768)
    assert {t.pad_to for t in TARGETS.values() if "flux2" in t.name} == {512}
    assert [t.name for t in TARGETS.values() if t.pads and not t.pad_to] == ["flux3-klein"]
    raw = {t.name for t in TARGETS.values() if not t.final_norm}
    second = {"qwen-image-2.1", "qwen-image-2.1-edit"}
    assert raw == {"minimax-h3", "joyimage", "ideogram4", *second}
    assert TARGETS["minimax-h3"].layers == (50,) and TARGETS["minimax-h3"].width == 5120


@pytest.mark.parametrize(
    ("tokens", "padded"), [(1, 80), (80, 80), (81, 160), (8100, 8160), (8170, 8192), (8192, 8192)]
)
def test_flux3_pads_to_a_multiple_below_its_most(tokens, padded):
    assert TARGETS["flux3-klein"].padded_length(tokens) == padded


def test_klein_pads_to_512_and_never_cuts():
    lengths = [TARGETS["flux2-klein-4b"].padded_length(n) for n in (1, 511, 512, 513, 9000)]
    assert lengths == [512, 512, 512, 513, 9000]


def test_rows_name_themselves_and_their_source():
    for name, target in TARGETS.items():
        assert target.name == name
        assert target.title
        assert target.source
    titles = [target.title for target in TARGETS.values()]
    assert len(set(titles)) == len(titles)


def test_an_unknown_target_lists_those_there_are():
    with pytest.raises(ValueError, match="no target 'sd15'.*z-image.*flux2-klein-4b"):
        find_target("sd15")
    assert find_target("krea2") is TARGETS["krea2"]


@pytest.mark.parametrize(
    ("name", "text_only", "with_pictures"),
    [("z-image", 35, 29), ("flux2-klein-4b", 27, 27), ("krea2", 35, 35), ("qwen-image", 36, 36),
     ("flux1", 36, 36), ("chat", 36, 36)],
)  # fmt: skip
def test_the_depth_a_target_needs(name, text_only, with_pictures):
    assert TARGETS[name].depth(37, images=False) == text_only
    assert TARGETS[name].depth(37, images=True) == with_pictures


@pytest.mark.parametrize(
    ("name", "num_layers"), [("flux2-klein-4b", 27), ("krea2", 35), ("z-image", 7), ("z-image", 1)]
)
def test_a_model_that_is_not_deep_enough(name, num_layers):
    with pytest.raises(ValueError, match=r"reads layer -?\d+.*0 to \d+\. Load Qwen3"):
        TARGETS[name].depth(num_layers, images=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ROWS, "chat"])
@pytest.mark.parametrize("images", [0, 1])
def test_auto_selects_what_the_row_says(tiny, picture, name, images):
    h = tiny().encode("a house", [picture(64, 64)] * images, target=name)
    t = vlm.select_layers(h)
    target = TARGETS[name]
    layers = target.layers_for(bool(images))
    stack = h.layers(layers, final_norm=target.final_norm)[:, :, h.dropped :]
    by_token = stack.transpose(1, 2)
    by_token = by_token.transpose(2, 3) if target.dimension_major else by_token
    assert torch.equal(t.states, by_token.flatten(2))
    assert h.depth == target.depth(37, bool(images))
    assert t.n == t.token_map["n"] == h.n - h.dropped


def test_auto_keeps_the_picture_layers_after_a_filter(tiny, picture):
    """What was encoded with a picture is read where pictures are, whatever is left of it."""
    h = tiny().encode("a house", [picture(64, 64)], target="z-image")
    t = vlm.select_layers(vlm.filter_tokens(h, keep="text"))
    text = [i for i, role in enumerate(h.token_map["role"])
            if role not in ("image", "vision_marker")]  # fmt: skip
    assert torch.equal(t.states, h.layer(-8)[:, text])


def test_a_connectors_target_has_no_layers_of_its_own(tiny):
    h = tiny("qwen3_vl", 2).encode("a house", target="flux1")
    with pytest.raises(ValueError, match="FLUX.1.*`load_connector`"):
        vlm.select_layers(h)
    assert vlm.select_layers(h, "1").states.shape[2] == 64


def test_the_drop_leaves_something(tiny, picture):
    for images in ([], [picture(64, 64)]):
        for text in ("", "a"):
            for name in ("krea2", "qwen-image", "qwen-image-2.1"):
                h = tiny("qwen3_vl", 36).encode(text, images, target=name)
                assert 0 < h.dropped < h.n
