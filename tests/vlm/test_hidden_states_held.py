"""What hidden states hold, up to which bound, and what they do without their model."""

import gc
import weakref

import pytest
import torch
from rounding import rounding

import vlm
from vlm.running.host import Host

TEXT = "A red house by the river, 你好 🎨, oil painting"
# For what does not depend on the family; Qwen3-VL has everything the others have, and DeepStack.
QWEN3 = pytest.mark.parametrize("family", ["qwen3_vl"], indirect=True)


# ---- what is held


def held_bytes(h):
    return sum(part.nbytes for k in h.held for part in h.store.state(k))


def test_every_layer_passed_is_held_once(tiny):
    h = tiny().encode(TEXT, depth=12)
    assert h.held == tuple(range(13))
    assert h.depth == 12
    assert held_bytes(h) == 13 * h.token_map["n"] * 64 * 4


def test_nothing_held_hangs_on_to_a_larger_tensor(tiny, picture):
    """Live bytes are those of the layers: no view keeps a whole sequence or a stack alive."""
    model = tiny("qwen3_vl", 6)
    states = [model.encode(text, [picture(90, 150)], depth=6) for text in (TEXT, "another")]
    parts = [part for h in states for k in h.held for part in h.store.state(k)]
    prefix = model.prefix_cache.get(states[0].store.prefix_key)
    parts += [*prefix.states, *(part for pair in prefix.pairs for part in pair)]
    assert all(part.untyped_storage().nbytes() == part.nbytes for part in parts)
    (vision_input,) = states[0].prompt.vision_inputs
    seen = model.prefix_cache.get_features(f"0:{vision_input.digest().hex()}")
    features = [seen.merged, *seen.deepstack]
    assert all(part.untyped_storage().nbytes() == part.nbytes for part in features)
    live = {part.data_ptr(): part.nbytes for part in [*parts, *features]}
    texts = sum(7 * (h.n - h.prompt.prefix) * 64 * 4 for h in states)
    assert sum(live.values()) == texts + model.prefix_cache.bytes


def test_over_the_bound_the_layers_asked_for_and_the_deepest_stay(tiny, picture):
    model, images = tiny(), [picture(90, 150)]
    h = model.encode(TEXT, images, keep_mb=0)
    h.layers([8, 20])
    assert set(h.held) == {8, 20}
    h.layer(28)
    assert set(h.held) == {8, 20, 28}


def test_over_the_bound_a_shallower_request_does_not_cost_the_deepest(tiny, watch):
    model = tiny()
    h = model.encode(TEXT, keep_mb=0, depth=28)
    h.layer(8)
    count = watch(model)
    h.layer(28)
    assert count.ran == []


def test_over_the_bound_layers_held_and_missing_come_together(tiny, picture, err):
    model, images = tiny(), [picture(90, 150)]
    want = model.encode(TEXT, images, depth=27).layers([9, 18, 27])
    h = model.encode(TEXT, images, depth=27, keep_mb=0)
    assert err(h.layers([9, 18, 27]), want) <= rounding(27)
    assert err(h.layers([27, 9]), want[:, [2, 0]]) <= rounding(27)
    h = model.encode(TEXT, images, depth=18, keep_mb=0)
    # One below what is held, one above.
    assert err(h.layers([9, 27]), want[:, [0, 2]]) <= rounding(27)


def test_the_bound_counts_bytes(tiny):
    model = tiny()
    one = model.encode(TEXT).token_map["n"] * 64 * 4
    h = model.encode(TEXT, keep_mb=10.5 * one / 2**20, depth=9)
    assert h.held == tuple(range(10))
    h = model.encode(TEXT, keep_mb=10.5 * one / 2**20, depth=30)
    assert 30 in h.held
    assert held_bytes(h) <= 10.5 * one


# ---- the model behind them


def test_without_the_model_what_is_held_still_comes(tiny_folder, picture):
    model = vlm.load(tiny_folder("qwen3_vl", 4), dtype="float32")
    h = model.encode(TEXT, [picture(90, 150)], depth=2).hold_model_weakly()
    want = h.layer(2)
    del model
    gc.collect()

    assert torch.equal(h.layer(2), want)
    assert h.layer(1).shape == want.shape
    assert h.patcher is None
    with pytest.raises(ValueError, match=r"Layer 4 .*`encode` ran to layer 2.*`depth`.*4"):
        h.layer(-1)


def test_without_the_model_the_last_layer_is_still_normed(tiny_folder, tiny, err):
    model = vlm.load(tiny_folder("qwen3_vl", 4), dtype="float32")
    h = model.encode(TEXT, depth=4).hold_model_weakly()
    del model
    gc.collect()
    assert err(h.layer(-1), tiny("qwen3_vl", 4).encode(TEXT).layer(-1)) <= rounding()


def test_without_the_model_a_layer_let_go_is_not_called_too_deep(tiny_folder):
    model = vlm.load(tiny_folder("qwen3_vl", 4), dtype="float32")
    h = model.encode(TEXT, depth=4, keep_mb=0).hold_model_weakly()
    del model
    gc.collect()
    with pytest.raises(ValueError) as error:
        h.layer(2)
    assert "ran to layer 4" not in str(error.value) or "keep" in str(error.value)


def test_no_cycle_keeps_a_model_or_its_weights(family, tiny_folder, picture):
    model = vlm.load(tiny_folder(family, 2), dtype="float32")
    h = model.encode(TEXT, [picture(64, 64)], depth=2).hold_model_weakly()
    again = model.encode("another text", [picture(64, 64)], depth=2).hold_model_weakly()
    alive = [weakref.ref(model), weakref.ref(model.backbone), weakref.ref(model.backbone.model)]
    alive += [weakref.ref(model.backbone.text.layers[0].self_attn.q_proj.weight)]
    alive += [weakref.ref(model.backbone.text.norm.weight)]
    gc.collect()
    gc.disable()
    try:
        del model
        assert [ref() for ref in alive] == [None] * len(alive)
    finally:
        gc.enable()
    assert h.layer(2).shape[2] == again.layer(-1).shape[2] == 64


def test_hidden_states_hold_the_model_they_may_need(tiny_folder, tiny, picture, err):
    """In one line, as a script has it: no variable holds the model."""
    layer = vlm.load(tiny_folder("qwen3_vl", 4), dtype="float32").encode(TEXT).layer(-1)
    assert err(layer, tiny("qwen3_vl", 4).encode(TEXT).layer(-1)) <= 1e-6


def test_letting_go_of_the_model_is_each_objects_own(tiny_folder):
    model = vlm.load(tiny_folder("qwen3_vl", 2), dtype="float32")
    held = model.encode(TEXT)
    weak = model.encode(TEXT).hold_model_weakly()
    alive = weakref.ref(model.engine)
    del model
    assert held.layer(2).shape == weak.layer(2).shape
    del held
    assert alive() is None


def test_states_pass_on_the_models_patcher(tiny):
    class Patched(Host):
        patcher = "the patcher"

    model = tiny("qwen3_vl", 2)
    model.engine.host = Patched()
    assert model.patcher == model.encode(TEXT).patcher == "the patcher"


# ---- not CONDITIONING


@pytest.mark.parametrize("use", [list, len, lambda h: h[0], lambda h: [x for x in h]])
def test_using_them_as_conditioning_says_which_node_is_missing(tiny, use):
    h = tiny("qwen3_vl", 2).encode(TEXT)
    with pytest.raises(TypeError, match="hidden states.*Hidden Layer Select, LAP Pool or Connec"):
        use(h)
