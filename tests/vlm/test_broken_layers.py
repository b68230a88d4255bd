"""A transformers whose decoder layers are called another way: a warning, and the right numbers.

The layers are broken on purpose for whoever calls them from outside; the language model's own
forward knows them, as it will in the version that brings such a change.
"""

import inspect
import logging

import pytest
import torch
import transformers
from layer_breakers import (
    OF_THE_CACHE,
    RAISING,
    new_argument,
    parameters_of,
    returned_tuple,
    scaled,
)

import vlm
from vlm.families import FAMILIES as KNOWN
from vlm.running import self_check, versions
from vlm.running.decoder_layer import CallError
from vlm.running.plain_forward import PlainForward

pytestmark = pytest.mark.slow

NAMES = ("qwen2_5_vl", "qwen3_vl", "gemma3", "internvl", "qwen3_5", "llama")
FAMILIES = tuple(name for name in NAMES if hasattr(transformers, KNOWN[name].architecture))
LAYERS = 6
TEXT, SYSTEM = "A red house by the river", "You paint."

families = pytest.mark.parametrize("family", FAMILIES)


ALL = tuple(name for name in KNOWN if hasattr(transformers, KNOWN[name].architecture))
every = pytest.mark.parametrize("family", ALL)


@pytest.fixture
def break_layers(monkeypatch):
    """`break_layers(model, how)`: its layers are called another way, but by its own forward.

    With `everywhere` the own forward gets what is broken as well. Gives the list of layers run.
    """

    def change(model, how, everywhere=False):
        text = model.backbone.text
        kind, whole = type(text.layers[0]), type(text)
        original, own = kind.forward, whole.forward
        broken, shown = how(original)
        inside, ran = [], []

        def layer(self, *args, **kwargs):
            ran.append(self)
            known = inside and not everywhere
            return (original if known else broken)(self, *args, **kwargs)

        def forward(self, *args, **kwargs):
            inside.append(True)
            try:
                return own(self, *args, **kwargs)
            finally:
                inside.pop()

        layer.__signature__ = inspect.Signature(shown)
        forward.__signature__ = inspect.signature(own)
        monkeypatch.setattr(kind, "forward", layer)
        monkeypatch.setattr(whole, "forward", forward)
        return ran

    return change


@pytest.fixture(autouse=True)
def fresh():
    """No warning was said before, and no family was checked."""
    for forget in (versions.forget_warnings, self_check.forget):
        forget()
    yield
    for forget in (versions.forget_warnings, self_check.forget):
        forget()


@pytest.fixture
def toy(tiny, family):
    """The family's toy model, run layer by layer, with empty caches."""
    model = tiny(family, LAYERS)
    model.backbone.plain = None
    yield model
    model.backbone.plain = None
    model.prefix_cache.clear()


@pytest.fixture
def pictures(picture, family):
    """Two of them where the family can see."""
    return [picture(70, 70, 1), picture(64, 66, 2)] if KNOWN[family].has_vision else None


@pytest.fixture
def untested(monkeypatch):
    """The installed version counts as one that was not tested."""
    monkeypatch.setattr(self_check, "is_tested", lambda: False)


def said(caplog):
    """What was warned of."""
    ours = (one for one in caplog.records if one.name == "vlm_conditioning")
    return [one.getMessage() for one in ours if one.levelno >= logging.WARNING]


def all_layers(states):
    return states.layers(range(LAYERS + 1))


# --- the same numbers


@pytest.mark.parametrize("how", RAISING, ids=lambda how: how.__name__)
@families
def test_every_layer_is_the_same(toy, pictures, break_layers, err, caplog, how):
    want = all_layers(toy.encode(TEXT, pictures))
    toy.prefix_cache.clear()
    break_layers(toy, how)
    got = toy.encode(TEXT, pictures)
    assert err(all_layers(got), want) <= 1e-5
    assert err(got.layer(-1, final_norm=False), want[:, -1]) > 1e-3  # which is normed
    if how in OF_THE_CACHE and not toy.family.decoder.reuses_prefix:
        assert toy.backbone.plain is None and said(caplog) == []
        return
    assert toy.backbone.plain is not None
    (told,) = said(caplog)
    for part in (transformers.__version__, toy.family.title, "one forward", "slower", "Update"):
        assert part in told
    assert len(toy.prefix_cache) == 0 and got.reused_tokens == 0


@families
def test_the_warning_comes_once(toy, pictures, break_layers, caplog):
    break_layers(toy, new_argument)
    for text in ("a", "b"):
        toy.encode(text, pictures).layer(2)
    toy.backbone.plain = None  # as another model of the family has it
    toy.encode("c", pictures).layer(2)
    assert len(said(caplog)) == 1


@families
def test_pad_tokens_in_front(toy, pictures, break_layers, err):
    def encode():
        return toy.encode(TEXT, pictures and pictures[:1], padding="left")

    assert encode().prompt.left > 0
    want = all_layers(encode())
    toy.prefix_cache.clear()
    break_layers(toy, new_argument)
    got = encode()
    assert err(all_layers(got), want) <= 1e-5
    assert toy.backbone.plain is not None


@pytest.mark.parametrize("family", [name for name in FAMILIES if name.startswith("qwen")])
def test_pad_tokens_behind(toy, break_layers, err):
    def encode():
        return toy.encode(TEXT, target="flux2-klein-4b")

    prompt = encode().prompt
    assert prompt.real < len(prompt.ids)
    want = all_layers(encode())
    toy.prefix_cache.clear()
    break_layers(toy, new_argument)
    assert err(all_layers(encode()), want) <= 1e-5
    assert toy.backbone.plain is not None


@pytest.mark.parametrize("how", RAISING, ids=lambda how: how.__name__)
@families
def test_an_answer_is_the_same(toy, pictures, break_layers, err, caplog, how):
    def rewrite():
        return toy.rewrite(TEXT, pictures, max_tokens=4, temperature=0)

    want = rewrite()
    toy.prefix_cache.clear()
    break_layers(toy, how)
    got = rewrite()
    assert (got.text, got.tokens, got.finished) == (want.text, want.tokens, want.finished)
    assert err(all_layers(got.states), all_layers(want.states)) <= 1e-5
    assert len(said(caplog)) == 1


@every
def test_a_plain_forward_equals_layer_by_layer(toy, pictures, err):
    want = all_layers(toy.encode(TEXT, pictures))
    toy.backbone.plain = PlainForward(toy.backbone.text, toy.family.decoder)
    assert err(all_layers(toy.encode(TEXT, pictures)), want) <= 1e-5


@families
def test_a_returned_tuple_is_known(toy, pictures, break_layers, err, caplog):
    want = all_layers(toy.encode(TEXT, pictures))
    toy.prefix_cache.clear()
    break_layers(toy, returned_tuple)
    assert err(all_layers(toy.encode(TEXT, pictures)), want) <= 1e-5
    assert toy.backbone.plain is None and said(caplog) == []


# --- what it runs


@families
def test_a_plain_forward_stops_early(toy, pictures, break_layers, err):
    want = toy.encode(TEXT, pictures).layer(3)
    ran = break_layers(toy, new_argument)
    toy.backbone.plain = PlainForward(toy.backbone.text, toy.family.decoder)
    states = toy.encode(TEXT, pictures)
    assert err(states.layer(3), want) <= 1e-5
    assert ran == list(toy.backbone.text.layers[:3])
    assert states.held == (0, 1, 2, 3)
    states.layer(1)
    assert len(ran) == 3
    states.layer(5)  # nothing is resumed
    assert ran[3:] == list(toy.backbone.text.layers[:5])
    for module in (*toy.backbone.text.layers, toy.backbone.text.norm):
        assert not [hook for hook in module._forward_pre_hooks.values() if "enter" in repr(hook)]


@pytest.mark.parametrize("family", ["qwen3_vl"])
def test_memory_that_runs_out_is_no_reason(toy, break_layers, caplog):
    def full(forward):
        def broken(self, *args, **kwargs):
            raise torch.OutOfMemoryError("no room")

        return broken, parameters_of(forward)

    break_layers(toy, full)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        toy.encode(TEXT).layer(2)
    assert toy.backbone.plain is None and said(caplog) == []


@pytest.mark.parametrize("family", ["qwen3_vl"])
def test_states_that_are_no_numbers_are_no_reason(toy, changed, caplog):
    with (
        changed(toy.backbone.text.layers[1].mlp.down_proj.weight, float("nan")),
        pytest.raises(ValueError, match="layer 2 hold NaN"),
    ):
        toy.encode(TEXT).layer(3)
    assert toy.backbone.plain is None and said(caplog) == []


@families
def test_where_neither_runs_the_version_is_named(toy, break_layers, caplog):
    break_layers(toy, new_argument, everywhere=True)
    want = f"transformers {transformers.__version__} does not run .*block_table"
    with pytest.raises(CallError, match=want):
        toy.encode(TEXT).layer(2)
    assert toy.backbone.plain is None and said(caplog) == []


# --- the self-check


@every
def test_the_committed_numbers_are_those_of_this_version(toy):
    assert self_check.difference(toy, toy.family) == ""


@every
def test_one_value_off_is_a_difference(toy, changed):
    with changed(toy.backbone.text.layers[3].post_attention_layernorm.weight, 2.0):
        assert self_check.difference(toy, toy.family).startswith("a prompt, layer 4: off by")


@families
def test_another_scale_is_noticed(tiny_folder, toy, untested, break_layers, err, caplog, pictures):
    want = all_layers(toy.encode(TEXT, pictures))
    break_layers(toy, scaled)
    for _ in range(2):
        model = vlm.load(tiny_folder(toy.family.model_type, LAYERS), dtype="float32")
        assert model.backbone.plain is not None
    (told,) = said(caplog)
    assert "one forward" in told and "layer 1: off by" in told
    assert err(all_layers(model.encode(TEXT, pictures)), want) <= 1e-5


@families
def test_another_scale_everywhere_is_said(tiny_folder, toy, untested, break_layers, caplog):
    break_layers(toy, scaled, everywhere=True)
    model = vlm.load(tiny_folder(toy.family.model_type, LAYERS), dtype="float32")
    assert model.backbone.plain is None
    (told,) = said(caplog)
    assert "other hidden states" in told and transformers.__version__ in told
    assert len(all_layers(model.encode(TEXT)).unbind(1)) == LAYERS + 1  # it runs


@families
def test_what_raises_is_noticed_on_loading(tiny_folder, toy, untested, break_layers, caplog):
    break_layers(toy, new_argument)
    model = vlm.load(tiny_folder(toy.family.model_type, LAYERS), dtype="float32")
    assert model.backbone.plain is not None
    (told,) = said(caplog)
    assert "block_table" in told


@every
def test_an_untested_version_that_is_right_says_nothing(
    tiny_folder, untested, caplog, monkeypatch, family
):
    measured, measure = [], self_check.measure

    def count(toy):
        measured.append(toy.family.model_type)
        return measure(toy)

    monkeypatch.setattr(self_check, "measure", count)
    for _ in range(2):
        model = vlm.load(tiny_folder(family, LAYERS), dtype="float32")
        assert model.backbone.plain is None
    assert measured.count(family) == 1 and said(caplog) == []


@every
def test_a_tested_version_is_not_checked(tiny_folder, monkeypatch, family):
    monkeypatch.setattr(self_check, "is_tested", lambda: True)
    monkeypatch.setattr(self_check, "measure", None)
    assert vlm.load(tiny_folder(family, LAYERS), dtype="float32").backbone.plain is None


# --- warnings of ours


@pytest.mark.filterwarnings("error")
@every
def test_nothing_we_call_is_deprecated(tiny_folder, pictures, family):
    model = vlm.load(tiny_folder(family, LAYERS), dtype="float32")
    model.encode(TEXT, pictures).layer(-1)
    model.rewrite(TEXT, pictures, max_tokens=2, temperature=0)
