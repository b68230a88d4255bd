"""Hidden states against a plain Hugging Face forward, and what a request costs."""

import itertools

import pytest
import torch
from rounding import rounding

import vlm

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
