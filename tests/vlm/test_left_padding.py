"""Padding on the left, as X2I's connectors were trained with: beside transformers' own forward."""

import pytest
import torch

import vlm
from vlm.conditioning.check import Needs, check
from vlm.conditioning.entries import Entry
from vlm.prompts.padding import Padding, choose_padding
from vlm.prompts.positions import VisionBlock, mrope_positions
from vlm.running.plain_forward import PlainForward

pytestmark = pytest.mark.slow

FAMILY = "qwen2_5_vl"


@pytest.fixture
def family():
    """X2I runs on Qwen2.5-VL."""
    return FAMILY


def left(h):
    return h.token_map["role"].count("pad")


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("template", ["x2i", "x2i-train", "chat"])
@pytest.mark.slow
def test_layers_equal_transformers(v, hf, picture, err, images, template):
    pictures = [picture(64, 96, seed) for seed in range(images)]
    h = v.encode("two boats", images=pictures, target="flux1", template=template, padding="left")
    pads = h.prompt.left
    assert pads == left(h) > 0 and h.token_map["role"][:pads] == ["pad"] * pads
    ids = torch.tensor([h.prompt.ids])
    seen = {}
    if pictures:
        patches = [visual.patches() for visual in h.prompt.vision_inputs]
        seen["pixel_values"] = torch.cat([each.pixels for each in patches])
        seen["image_grid_thw"] = torch.tensor([each.grid for each in patches])
    mask = torch.ones_like(ids)
    mask[:, :pads] = 0
    streams, normed = hf.streams(input_ids=ids, attention_mask=mask, **seen, **hf.types(ids))
    for k in (0, 1, 2, 9, 35, 36):
        assert err(h.layer(k, final_norm=False), streams[k]) < 2e-5, k
        assert err(h.layer(k)[:, :pads], (normed if k == 36 else streams[k])[:, :pads]) < 2e-5, k
    assert err(h.layer(-1), normed) < 2e-5


@pytest.mark.parametrize("images", [0, 1])
@pytest.mark.parametrize("template", ["x2i", "x2i-bare"])
def test_padding_behind_equals_transformers(v, hf, picture, err, images, template):
    pictures = [picture(64, 96, seed) for seed in range(images)]
    h = v.encode("two boats", images=pictures, target="flux1", template=template, padding="right")
    roles, ids = h.token_map["role"], torch.tensor([h.prompt.ids])
    assert h.n == 512 and roles[h.prompt.real :] == ["pad"] * left(h) and h.prompt.real < 512
    seen = {}
    if pictures:
        patches = [visual.patches() for visual in h.prompt.vision_inputs]
        seen["pixel_values"] = torch.cat([each.pixels for each in patches])
        seen["image_grid_thw"] = torch.tensor([each.grid for each in patches])
    mask = torch.ones_like(ids)
    mask[:, h.prompt.real :] = 0
    # With pads at 1, as transformers had them when X2I was released; it changed twice since.
    real, index = ids[:, : h.prompt.real], hf.model.model.get_rope_index
    given = {"image_grid_thw": seen["image_grid_thw"]} if pictures else {}
    places, _ = index(real, **given, **hf.types(real))
    places = torch.cat([places, torch.ones(3, 1, left(h), dtype=places.dtype)], dim=2)
    types = hf.types(ids)
    streams, normed = hf.streams(
        input_ids=ids, attention_mask=mask, position_ids=places, **seen, **types
    )
    for k in (0, 1, 9, 36):
        assert err(h.layer(k, final_norm=False), streams[k]) < 2e-5, k
    assert err(h.layer(-1), normed) < 2e-5


def test_pad_rows_do_not_depend_on_the_prompt(v):
    first = v.encode("two boats", target="flux1", template="x2i")
    second = v.encode("a red house by the sea", target="flux1", template="x2i")
    shared = min(first.prompt.left, second.prompt.left)
    assert torch.equal(first.layer(3)[:, :1], second.layer(3)[:, :1])
    row = first.layer(3)[:, :shared]
    assert torch.allclose(row, row[:, :1].expand_as(row), atol=1e-6)


def test_real_rows_are_those_without_padding(v, picture, err):
    images = [picture(64, 96)]
    padded = v.encode("two boats", images=images, target="flux1", template="x2i")
    plain = v.encode("two boats", images=images, target="flux1", template="x2i", padding="none")
    assert plain.prompt.left == 0 and left(plain) == 0
    for k in (0, 3, -1):
        assert err(padded.layer(k)[:, padded.prompt.left :], plain.layer(k)) < 2e-5
    assert padded.token_map["grids"] == plain.token_map["grids"]
    assert padded.token_map["row"][padded.prompt.left :] == plain.token_map["row"]


@pytest.mark.parametrize("words", [5, 380, 600])
def test_lengths(v, words):
    text = "house " * words
    plain = v.encode(text, target="flux1", template="x2i", padding="none").n
    assert v.encode(text, target="flux1", template="x2i").n == max(512, int(1.3 * plain))
    trained = v.encode(text, target="flux1", template="x2i-train")
    assert trained.n == 512
    whole = v.encode(text, target="flux1", template="x2i-train", padding="none").prompt.ids
    assert trained.prompt.ids[trained.prompt.left :] == whole[:512]
    chat = v.encode(text, target="flux1")
    assert left(chat) == 0
    assert v.encode(text, target="flux1", padding="left").n == max(512, chat.n)


def test_a_picture_behind_the_cut_is_refused(v, picture):
    with pytest.raises(ValueError, match="reach beyond the 512 tokens .* Lower `max_pixels`"):
        v.encode("x", images=[picture(896, 896)], target="flux1", template="x2i-train")


def test_a_padded_prompt_neither_takes_nor_leaves_a_prefix(v, picture):
    for _ in range(2):
        h = v.encode("two boats", images=[picture(96, 96)], target="flux1", template="x2i")
        h.layer(-1)
        assert h.reused_tokens == 0 and len(v.prefix_cache) == 0


def test_runs_on_from_a_held_layer(v):
    steps = v.encode("two boats", target="flux1", template="x2i")
    steps.layer(2)
    at_once = v.encode("two boats", target="flux1", template="x2i")
    assert torch.equal(steps.layer(-1), at_once.layer(-1))


def test_keys_tell_padding_apart(v):
    padded = v.encode("two boats", target="flux1", template="x2i").prompt
    plain = v.encode("two boats", target="flux1", template="x2i", padding="none").prompt
    assert padded.key != plain.key


def test_klein_keeps_its_own_padding_unless_told(v):
    right = v.encode("two boats", target="flux2-klein-4b")
    assert right.n == 512 and right.token_map["role"][-1] == "pad"
    lefts = v.encode("two boats", target="flux2-klein-4b", padding="left")
    assert lefts.n == 512 and lefts.token_map["role"][0] == "pad"
    assert (
        "pad"
        not in v.encode("two boats", target="flux2-klein-4b", padding="none").token_map["role"]
    )


def test_positions():
    block = VisionBlock(start=5, frames=1, rows=2, cols=2)
    moved = VisionBlock(start=8, frames=1, rows=2, cols=2)
    plain, padded = mrope_positions(12, [block]), mrope_positions(15, [moved], left=3)
    assert torch.equal(padded[:, 3:], plain) and bool((padded[:, :3] == 1).all())


def test_choices():
    own = Padding(512, 1.3)
    assert choose_padding("auto", own, "left") is own is choose_padding("left", own, "right")
    assert choose_padding("auto", own, "right") is None is choose_padding("none", own, "left")
    assert choose_padding("auto", None, "left") is None
    assert choose_padding("left", None, "right") == Padding(512)
    right = Padding(512, cut=True, side="right")
    assert choose_padding("auto", right, "left") is right
    assert choose_padding("left", right, "left") == Padding(512, cut=True)
    assert choose_padding("right", own, "left") == Padding(512, 1.3, side="right")
    assert choose_padding("right", None, "left") == Padding(512, side="right")
    known = "auto, none, left, right"
    with pytest.raises(ValueError, match=f"padding is 'behind'; choose one of: {known}"):
        choose_padding("behind", own, "left")


def test_x2i_end_to_end_fits_flux1(v, picture, tmp_path):
    from safetensors.torch import save_file

    g = torch.Generator().manual_seed(0)
    shapes = {
        "conv.weight": (1, 37, 5, 5),
        "conv.bias": (1,),
        "mlp.layernorm.weight": (64,),
        "mlp.layernorm.bias": (64,),
        "mlp.projector.0.weight": (4096, 64),
        "mlp.projector.2.weight": (4096, 4096),
        "mlp.fc.1.weight": (768, 4096),
        "mlp.fc.1.bias": (768,),
    }
    weights = {name: torch.randn(shape, generator=g) / 64 for name, shape in shapes.items()}
    save_file(weights, tmp_path / "x2i.safetensors")
    h = v.encode("雪の中の赤い家", images=[picture(64, 64)], target="flux1", template="x2i")
    out = vlm.load_connector(tmp_path / "x2i.safetensors")(h)
    assert out.context.shape == (1, 512, 4096) and out.pooled.shape == (1, 768)
    entry = Entry(out.tokens, {"pooled_output": out.pooled})
    assert check([entry], Needs.of("flux1")) == []
    bare = check([Entry(out.tokens, {})], Needs.of("flux1"))
    assert [finding.stops for finding in bare] == [False] and "pooled_output" in bare[0].text


def test_qwen2vl_flux_has_its_words_and_budgets(tiny, picture):
    v = tiny("qwen2_vl", 4)
    for target, tokens in (("qwen2vl-flux", 512), ("qwen2vl-flux-text", 256)):
        for size in ((64, 64), (1200, 1500)):
            h = v.encode("", images=[picture(*size)], target=target)
            count = h.token_map["role"].count("image")
            assert 0.9 * tokens <= count <= 1.05 * tokens and h.prompt.left == 0
        text = v.tokenizer.text_of(list(h.prompt.ids))
        assert text.endswith("Describe this image.<|im_end|>\n<|im_start|>assistant\n")
        assert "text" not in h.token_map["role"]
    typed = v.encode("a cat", images=[picture(*size)], target=target)
    assert "a cat<|im_end|>" in v.tokenizer.text_of(list(typed.prompt.ids))
    image = [i for i, role in enumerate(h.token_map["role"]) if role == "image"]
    assert torch.allclose(h.layer(-1)[:, image], typed.layer(-1)[:, image], atol=1e-5)


@pytest.fixture
def broken_kernel(monkeypatch):
    """An attention whose answer for rows that look nowhere is NaN, as some kernels have it."""
    attend, seen = torch.nn.functional.scaled_dot_product_attention, []

    def broken(query, key, value, attn_mask=None, **more):
        out = attend(query, key, value, attn_mask=attn_mask, **more)
        if attn_mask is None:
            return out
        seen.append(attn_mask)
        return out.masked_fill(~attn_mask.any(-1, keepdim=True), float("nan"))

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", broken)
    return seen


@pytest.mark.parametrize("plain", [False, True], ids=["by layer", "plain forward"])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "gemma3", "llama"])
def test_no_row_asks_a_kernel_what_it_sees_nowhere(tiny, name, plain, request, monkeypatch):
    v = tiny(name, 6)
    if plain:
        monkeypatch.setattr(v.backbone, "plain", PlainForward(v.backbone.text, v.family.decoder))
    want = v.encode("two boats", padding="left")
    every = want.layers(range(want.num_layers))
    masks = request.getfixturevalue("broken_kernel")
    again = v.encode("two boats", padding="left")
    assert torch.equal(again.layers(range(want.num_layers)), every)
    assert again.prompt.left > 0 and masks and all(mask.any(-1).all() for mask in masks)


def test_another_kernel_gives_the_same_pad_rows(v, err):
    """Pads are what the layers make of no attention at all, whatever computes it."""
    layers = range(6)
    want = v.encode("two boats", target="flux1", template="x2i").layers(layers)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        h = v.encode("two boats", target="flux1", template="x2i")
        ours = h.layers(layers)
    assert err(ours, want) < 1e-5
    pads, layer = h.prompt.left, v.backbone.text.layers[0]
    hidden = want[:, 0, :pads]
    alone = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    assert err(ours[:, 1, :pads], alone) < 1e-5
