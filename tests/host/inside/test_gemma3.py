"""Gemma 3 in a CLIP: ComfyUI's own bits for words, whole pictures, its tokenizer's ids."""

from __future__ import annotations

import comfy.text_encoders.lumina2
import pytest
import torch
from tiny_gemma import KINDS, LAYERS, WINDOW, tiny_gemma


def cut_short() -> bool:
    """Whether ComfyUI's wrapper of the 4B gives embeddings alone, as that of 0.29 does."""
    return "process_tokens" in vars(comfy.text_encoders.lumina2.Gemma3_4B_Vision_Model)


TEXTS = [
    "a red house by the sea, über 🏠 and more words than the window of eight tokens holds",
    "红色的房子\n\n  two  blanks ",
    "",
]


# In ComfyUI 0.29 the wrapper of the 4B cannot encode words: what it overrides lacks the mask.
WHOLE = [kind for kind in KINDS if kind != "gemma3_4b_vision" or not cut_short()]


@pytest.fixture(scope="module", params=WHOLE)
def pair(request):
    """The CLIP, and it as a VLM."""
    from pack.nodes.clip import vlm_from_clip

    clip = tiny_gemma(request.param)
    return clip, vlm_from_clip(clip, "huggingface", 1024)


@pytest.fixture(scope="module")
def seeing():
    from pack.nodes.clip import vlm_from_clip

    clip = tiny_gemma("gemma3_4b_vision")
    return clip.cond_stage_model.gemma3_4b_vision.transformer, vlm_from_clip(
        clip, "huggingface", 1024
    )


def encoder_of(clip):
    """ComfyUI's wrapper of the model itself, without what chooses among several."""
    stage = clip.cond_stage_model
    return getattr(stage, getattr(stage, "clip", ""), stage)


def native_tokens(clip, text: str) -> list[int]:
    """ComfyUI's own token ids, without pads."""
    tokens = clip.tokenize(text)
    (row,) = tokens["gemma3_4b"] if isinstance(tokens, dict) else tokens
    return [number for number, *_ in row if number != 0]


@pytest.mark.parametrize("text", TEXTS)
def test_words_give_the_clips_own_ids_and_bits(pair, text):
    """Of the 4B the layer that Lumina reads, of the 12B all of them, as LTX does."""
    clip, model = pair
    h = model.encode(text, target="chat", template="raw", depth=-1)
    ids = native_tokens(clip, text)
    assert list(h.prompt.ids) == ids
    want = encoder_of(clip).encode_token_weights([[(number, 1.0) for number in ids]])[0]
    assert torch.equal(h.layer(-2) if want.ndim == 3 else h.layers(range(LAYERS + 1)), want)
    assert h.n > WINDOW or len(text) < 60


def test_text_encode_gives_lumina_the_same_bits():
    from pack.nodes.clip import vlm_from_clip

    clip = tiny_gemma("gemma3_4b")
    h = vlm_from_clip(clip, "huggingface", 0).encode(TEXTS[0], template="raw", depth=-1)
    assert torch.equal(h.layer(-2), clip.encode_from_tokens(clip.tokenize(TEXTS[0])))


def test_the_pads_that_ltx_puts_before_words_change_little():
    """They shift every position alike, which a rotary embedding feels by its rounding alone."""
    from pack.nodes.clip import vlm_from_clip

    clip = tiny_gemma("gemma3_12b")
    h = vlm_from_clip(clip, "huggingface", 0).encode(TEXTS[0], template="raw", depth=-1)
    want = clip.encode_from_tokens(clip.tokenize(TEXTS[0]))
    assert want.shape[2] == 1024
    want = want[:, :, -h.n :]
    assert (h.layers(range(LAYERS + 1)) - want).abs().max() <= 5e-5 * want.abs().max()


def test_the_chat_template_is_gemmas(pair):
    _, model = pair
    h = model.encode("a house", target="chat", system="Paint.", depth=1)
    said = model.tokenizer.text_of(list(h.prompt.ids))
    assert said == (
        "<bos><start_of_turn>user\nPaint.\n\na house<end_of_turn>\n<start_of_turn>model\n"
    )
    assert h.prompt.ids.count(105) == 2 and h.prompt.ids.count(106) == 1


def test_special_tokens_that_are_typed_stay_words(pair):
    _, model = pair
    typed = "a <end_of_turn><start_of_turn>user <table> <bos><image_soft_token> x"
    h = model.encode(typed, target="chat", template="raw", depth=1)
    specials = {model.tokenizer.id_of(token) for token in model.tokenizer.specials}
    assert not specials.intersection(h.prompt.ids[1:])
    assert model.tokenizer.words_of(h.prompt.ids[1:]) == typed
    ids, spans = model.tokenizer.split(typed)
    assert len(ids) == len(spans) and spans[-1][1] == len(typed)


def test_each_id_covers_its_letters(pair):
    tokenizer = pair[1].tokenizer
    text = "a red house 🏠 家 über"
    ids, spans = tokenizer.split(text)
    assert spans[0][0] == 0 and spans[-1][1] == len(text)
    house = text.index("🏠")
    assert [span for span in spans if span[0] == house] == [(house, house + 1)] * 4
    assert all(before[1] in (after[0], after[1]) for before, after in zip(spans, spans[1:]))  # noqa: B905


def test_it_writes_as_comfyui_does():
    from pack.nodes.clip import vlm_from_clip

    clip = tiny_gemma("gemma3_4b", vocab_size=450)  # no more than its tokenizer has words for
    model = vlm_from_clip(clip, "huggingface", 1024)
    made = model.rewrite("a house", system="", template="raw", temperature=0, max_tokens=10)
    ids = list(made.states.prompt.ids)
    transformer = model.backbone._transformer
    embeds = transformer.model.embed_tokens(
        torch.tensor([ids[: -made.tokens]]), out_dtype=torch.float32
    )
    written = transformer.generate(
        embeds, do_sample=False, max_length=10, stop_tokens=[1, 106], execution_dtype=torch.float32
    )
    assert [token for token in written if token not in (1, 106)] == ids[-made.tokens :]


def test_a_pictures_features_are_comfyuis_own(seeing, picture):
    transformer, model = seeing
    square = picture(896, 896)  # which neither way resizes
    seen = model.preprocessor.prepare_images(square, None, None)[0]
    features, _ = model.backbone.encode_vision(seen.patches().pixels, seen.patches().grid)
    want, _ = transformer.preprocess_embed({"type": "image", "data": square}, torch.device("cpu"))
    assert features.shape == want[0].shape == (256, 64)
    assert (features - want[0]).abs().max() <= 1e-5 * want.abs().max()


def test_the_tokens_of_a_picture_see_each_other(seeing, picture):
    """ComfyUI's encoder has them look back only; the model was trained otherwise."""
    _, model = seeing
    one = picture(896, 896)
    other = one.clone()
    other[:, -14:] = 0.5  # its last row of patches
    states = [model.encode("a", [each], target="chat", depth=2) for each in (one, other)]
    first = states[0].token_map["role"].index("image")
    a, b = (h.layer(2)[0] for h in states)
    assert torch.equal(a[:first], b[:first])  # the words before look back only
    assert not torch.equal(a[first], b[first])


def test_another_prompt_reuses_the_picture(seeing, picture):
    _, model = seeing
    images = [picture(300, 500)]
    model.encode("one thing", images, target="chat", depth=-1)
    h = model.encode("quite another", images, target="chat", depth=-1)
    assert h.reused_tokens > 256
    model.prefix_cache.clear()
    fresh = model.encode("quite another", images, target="chat", depth=-1)
    for layer in (1, LAYERS - 1, LAYERS):
        difference = (h.layer(layer) - fresh.layer(layer)).abs().max()
        assert difference <= 1e-5 * fresh.layer(layer).abs().max()


def test_comfyuis_own_resize_is_refused_in_words():
    from pack.nodes.clip import vlm_from_clip

    with pytest.raises(ValueError, match=r"Set preprocessing on VLM From CLIP to huggingface\."):
        vlm_from_clip(tiny_gemma("gemma3_4b_vision"), "comfyui", 0)


def test_a_text_only_file_says_that_it_cannot_see(picture):
    from pack.nodes.clip import vlm_from_clip

    model = vlm_from_clip(tiny_gemma("gemma3_4b"), "comfyui", 0)
    with pytest.raises(ValueError, match=r"Gemma 3 \(text only\)"):
        model.encode("x", [picture(64, 64)], target="chat")
