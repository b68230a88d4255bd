"""Hidden states against a plain Hugging Face forward, and what a request costs."""

import gc
import itertools
import weakref

import pytest
import torch
from rounding import rounding

import vlm
from vlm.running.host import Host

TEXT = "A red house by the river, 你好 🎨, oil painting"
# For what does not depend on the family; Qwen3-VL has everything the others have, and DeepStack.
QWEN3 = pytest.mark.parametrize("family", ["qwen3_vl"], indirect=True)
CASES = {
    "text": ([], None),
    "system": ([], "You write about pictures."),
    "image": ([(90, 150)], None),
    "two images": ([(90, 150), (120, 64)], None),
    "two images and system": ([(64, 200), (100, 100)], "Look closely.\n"),
}


@pytest.fixture
def pictures(picture):
    return lambda sizes: [picture(*size, seed) for seed, size in enumerate(sizes)]


# ---- equal to Hugging Face


@pytest.mark.parametrize("case", CASES)
def test_every_layer_equals_what_enters_it_in_a_plain_forward(v, hf, pictures, err, case):
    sizes, system = CASES[case]
    images = pictures(sizes)
    streams, normed = hf.streams(**hf.inputs(TEXT, images, system))

    h = v.encode(TEXT, images, system=system)

    assert h.num_layers == len(streams) == 37
    assert (h.width, h.dtype) == (64, torch.float32)
    for k, stream in enumerate(streams):
        assert err(h.layer(k, final_norm=False), stream) <= rounding(k), f"layer {k}"
    assert err(h.layer(-1), normed) <= rounding()
    assert err(h.layer(36, final_norm=True), normed) <= rounding()
    assert err(normed, streams[-1]) > 1e-3  # or the comparison above says nothing


@pytest.mark.parametrize("layers", [1, 2])
def test_a_last_layer_with_deepstack_ends_with_it(layers, tiny_folder, tiny, pictures, err):
    from transformers import Qwen3VLForConditionalGeneration

    model = tiny("qwen3_vl", layers)
    h = model.encode(TEXT, pictures([(90, 150)]))
    folder = str(tiny_folder("qwen3_vl", layers))
    plain = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    caught = []
    plain.model.language_model.norm.register_forward_pre_hook(
        lambda module, args: caught.append(args[0].clone())
    )
    ids = torch.tensor([h.prompt.ids])
    patches = h.prompt.vision_inputs[0].patches()
    inputs = {"input_ids": ids, "pixel_values": patches.pixels}
    if hasattr(plain.model, "get_vision_position_ids"):  # transformers 5
        role = h.token_map["role"]
        inputs["mm_token_type_ids"] = torch.tensor([[int(r == "image") for r in role]])
    with torch.no_grad():
        normed = plain.model(image_grid_thw=torch.tensor([patches.grid]), **inputs)

    assert h.num_layers == layers + 1
    assert err(h.layer(-1, final_norm=False), caught[0]) <= rounding()
    assert err(h.layer(-1), normed.last_hidden_state) <= rounding()


@QWEN3
def test_the_shape_and_order_of_layers(v):
    h = v.encode(TEXT)
    n = h.token_map["n"]

    several = h.layers([20, 3, 3, -1, 0])

    assert several.shape == (1, 5, n, 64)
    assert h.layer(5).shape == (1, n, 64)
    for place, k in enumerate([20, 3, 3, -1, 0]):
        assert torch.equal(several[:, place], h.layer(k))
    assert torch.equal(h.layer(-37), h.layer(0))
    assert torch.equal(h.layer(-2), h.layer(35))
    assert torch.equal(h.layers([-1, 35], final_norm=False)[:, 0], h.layer(36, final_norm=False))


@pytest.mark.parametrize("k", [37, -38, 1000])
def test_a_layer_that_does_not_exist(tiny, k):
    h = tiny().encode(TEXT)
    with pytest.raises(ValueError, match=rf"Layer {k} does not exist.*0 to 36.*-37 to -1"):
        h.layer(k)
    with pytest.raises(ValueError, match="does not exist"):
        tiny().encode(TEXT, depth=k)


def test_no_layer_at_all(tiny):
    with pytest.raises(ValueError, match="layer"):
        tiny().encode(TEXT).layers([])


def test_what_a_caller_does_to_a_layer_stays_with_the_caller(tiny, pictures):
    h = tiny().encode(TEXT, pictures([(90, 150)]))
    for k in (0, 8, 36):
        before = h.layer(k).clone()
        h.layer(k).mul_(0)
        h.layers([k, k]).mul_(0)
        assert torch.equal(h.layer(k), before)


def test_the_layers_of_a_filtered_object_are_those_tokens(tiny, pictures):
    h = tiny().encode(TEXT, pictures([(90, 150)]))
    whole = h.layer(8)
    fewer = h.take([5, 2, 40])

    assert torch.equal(fewer.layer(8), whole[:, [5, 2, 40]])
    assert fewer.token_map["role"] == [h.token_map["role"][i] for i in (5, 2, 40)]
    assert torch.equal(fewer.take([1]).layer(20), h.layer(20)[:, [2]])
    assert fewer.layers([3, 8]).shape == (1, 2, 3, 64)
    assert h.layer(8).shape == whole.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_keep_the_models_dtype(tiny_folder, tiny, pictures, err, dtype):
    images = pictures([(90, 150)])
    half = vlm.load(tiny_folder("qwen3_vl", 6), dtype=dtype)
    h = half.encode(TEXT, images)
    exact = tiny("qwen3_vl", 6).encode(TEXT, images)

    assert h.dtype == h.layer(3).dtype == h.layer(-1).dtype == dtype
    assert err(h.layer(-1), exact.layer(-1)) < 0.1


# ---- padding


@pytest.mark.parametrize("sizes", [[], [(90, 150)]], ids=["text", "image"])
def test_kleins_padding_equals_a_masked_forward(v, hf, pictures, err, sizes):
    images = pictures(sizes)
    h = v.encode(TEXT, images, target="flux2-klein-4b")
    bare = v.encode(TEXT, images, target="z-image", template="flux2-klein")
    real = bare.token_map["n"]

    assert h.token_map["n"] == 512
    assert h.token_map["role"][:real] == bare.token_map["role"]
    assert h.token_map["role"][real:] == ["pad"] * (512 - real)
    assert set(h.prompt.ids[real:]) == {v.tokenizer.id_of("<|endoftext|>")}
    assert err(h.layer(18)[:, :real], bare.layer(18)) <= rounding(18)

    ids = torch.tensor([h.prompt.ids])
    inputs = {"input_ids": ids, "attention_mask": (torch.arange(512) < real).long()[None]}
    if images:
        patches = h.prompt.vision_inputs[0].patches()
        inputs |= {"pixel_values": patches.pixels, "image_grid_thw": torch.tensor([patches.grid])}
    inputs |= hf.types(ids)
    positions = torch.arange(512).expand(3, 1, 512)
    if images:
        types = {key: value[:, :real] for key, value in hf.types(ids).items()}
        seen = {"image_grid_thw": inputs["image_grid_thw"]}
        start, _ = hf.model.model.get_rope_index(ids[:, :real], **types, **seen)
        after = torch.arange(512 - real) + int(start.max()) + 1
        positions = torch.cat([start, after.expand(3, 1, -1)], dim=2)
    streams, normed = hf.streams(position_ids=positions, **inputs)
    for k in (0, 1, 9, 18, 27, 36):
        assert err(h.layer(k, final_norm=False), streams[k]) <= rounding(k), f"layer {k}"
    assert err(h.layer(-1), normed) <= rounding()


def test_klein_never_cuts(tiny):
    h = tiny("qwen3_vl", 1).encode("house " * 700, target="flux2-klein-4b")
    assert h.token_map["n"] > 700
    assert "pad" not in h.token_map["role"]


def test_klein_reuses_a_prefix_under_its_mask(v, pictures, watch, err):
    images = pictures([(90, 150)])
    v.encode("first", images, target="flux2-klein-4b", depth=27)
    count = watch(v)
    h = v.encode("second prompt", images, target="flux2-klein-4b", depth=27)
    prefix = h.prompt.prefix
    assert count.ran == [(k, 512 - prefix) for k in range(27)]
    v.prefix_cache.clear()
    fresh = v.encode("second prompt", images, target="flux2-klein-4b", depth=27)
    assert err(h.layers([9, 18, 27]), fresh.layers([9, 18, 27])) <= 1e-4


# ---- cost


def test_a_run_to_layer_k_runs_k_decoder_layers(v, pictures, watch):
    count = watch(v)
    for k in (0, 1, 8, 36):
        v.prefix_cache.clear()
        count.restart()
        v.encode(TEXT, pictures([(90, 150)]), depth=k)
        assert count.layers == list(range(k))
        assert count.pictures == 1


def test_there_is_no_lm_head_to_run(v):
    rows = v.backbone.text.embed_tokens.weight.shape[0]
    for name, module in v.backbone.named_modules():
        assert "lm_head" not in name
        assert getattr(module, "out_features", None) != rows


@QWEN3
def test_nothing_runs_before_a_layer_is_asked_for(v, pictures, watch):
    count = watch(v)
    h = v.encode(TEXT, pictures([(90, 150)]))
    assert (h.depth, h.held, h.width, h.num_layers) == (-1, (), 64, 37)
    assert len(h.token_map["role"]) == h.token_map["n"]
    assert (count.ran, count.pictures) == ([], 0)


def test_a_request_that_is_not_deeper_computes_nothing(v, pictures, watch):
    h = v.encode(TEXT, pictures([(90, 150)]), depth=20)
    count = watch(v)
    h.layers(list(range(21)))
    h.layer(-17)
    assert (count.ran, count.pictures) == ([], 0)
    h.layer(23)
    assert count.layers == [20, 21, 22]
    assert count.pictures == 0


@pytest.mark.parametrize("keep_mb", [512, 0], ids=["kept", "bound"])
@pytest.mark.parametrize("order", [*itertools.permutations([8, 20, 28])], ids=str)
def test_every_order_costs_one_run_and_says_the_same(tiny, picture, watch, err, order, keep_mb):
    model = tiny("qwen3_vl")
    images = [picture(90, 150)]
    fresh = model.encode(TEXT, images, depth=28)
    want = {k: fresh.layer(k) for k in order}
    model.prefix_cache.clear()
    count = watch(model)
    model.encode(TEXT, images, depth=28)
    one_run, one_picture = count.cost, count.pictures
    model.prefix_cache.clear()
    count.restart()

    h = model.encode(TEXT, images, keep_mb=keep_mb)
    for k in order:
        assert err(h.layer(k), want[k]) <= rounding(k)

    if keep_mb:
        assert count.cost <= 1.05 * one_run
        assert count.pictures == one_picture


def test_resuming_needs_no_prefix_cache(v, pictures, watch, err):
    images = pictures([(90, 150), (120, 64)])
    whole = v.encode(TEXT, images, depth=28).layers([1, 2, 28])
    v.prefix_cache.limit = 0
    v.prefix_cache.clear()
    count = watch(v)
    h = v.encode(TEXT, images)
    for k in (0, 1, 2, 28):  # between the layers that DeepStack feeds, too
        h.layer(k)
    assert count.layers == list(range(28))
    assert err(h.layers([1, 2, 28]), whole) <= rounding(28)


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
