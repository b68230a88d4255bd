"""Rewriting through a native CLIP: ComfyUI's own generation, and a Hugging Face model's states."""

from __future__ import annotations

import pytest
import torch
from hf_folder import write_folder
from tiny_clips import tiny_clip, weights_of

LAYERS = 30
TEXT = "a red house, 红色的房子 🏠"
GREEDY = {"temperature": 0, "max_tokens": 10}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """VLM From CLIP and VLM Loader's model, of the same weights; the CLIP."""
    from pack.nodes.clip import vlm_from_clip
    from pack.vlm import load

    clip = tiny_clip("krea2", num_hidden_layers=LAYERS)
    folder = tmp_path_factory.mktemp("hf") / "krea2"
    write_folder(folder, "krea2", weights_of("krea2", LAYERS), LAYERS)
    return vlm_from_clip(clip, "huggingface", 1024), load(folder, dtype="float32"), clip


@pytest.fixture(autouse=True)
def fresh(pair):
    for model in pair[:2]:
        model.prefix_cache.clear()


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("warm", [False, True])
def test_native_and_hugging_face_write_the_same(pair, picture, count, warm):
    images = [picture(96, 128, seed) for seed in range(count)]
    made = []
    for model in pair[:2]:
        if warm:
            model.rewrite("another", images, **GREEDY)
        made.append(model.rewrite(TEXT, images, **GREEDY))
    native, hf = made
    assert native.states.prompt.ids == hf.states.prompt.ids and native.tokens > 0
    assert (native.states.reused_tokens > 0) == warm
    for k in (0, 1, 4, 20, -1):
        ours, theirs = native.states.layer(k), hf.states.layer(k)
        assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()


def test_a_conversation_goes_on_natively(pair, picture):
    """Behind a beginning that is a part of what is kept: its turns run once, and alike."""
    from pack.vlm import Conversation

    asked = Conversation().user("What is it?", [picture(96, 128)])
    short, long = (asked.assistant(words) for words in ("A dog.", "A dog. It runs by the sea."))
    states = []
    for model in pair[:2]:
        model.encode("Paint that", conversation=long, depth=-1)
        h = model.encode("Paint that", conversation=short, depth=-1)
        made = model.rewrite("Paint it", conversation=long, system="", **GREEDY)
        assert made.states.reused_tokens > h.reused_tokens > 8
        states.append((h, made.states))
    for native, hf in zip(*states, strict=True):
        assert native.prompt.ids == hf.prompt.ids
        for k in (1, 4, 20, -1):
            ours, theirs = native.layer(k), hf.layer(k)
            assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()
    model = pair[0]
    model.prefix_cache.clear()
    fresh = model.encode("Paint that", conversation=short)
    ours = states[0][0].layer(-1)
    assert (ours - fresh.layer(-1)).abs().max() <= 1e-4 * fresh.layer(-1).abs().max()


def test_states_are_those_of_encoding_again(pair, picture):
    from pack.vlm.running.hidden_states import HiddenStates

    model = pair[0]
    made = model.rewrite(TEXT, [picture(96, 128)], **GREEDY)
    model.prefix_cache.clear()
    again = HiddenStates(model.engine, made.states.prompt, made.states.target, 512)
    for k in (1, 4, 20, -1):
        ours, theirs = made.states.layer(k), again.layer(k)
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_words_are_those_that_comfyui_writes(pair):
    """ComfyUI's own loop on the same tokens, in float32."""
    model, _, _ = pair
    made = model.rewrite(TEXT, **GREEDY)
    ids = made.states.prompt.ids
    transformer = model.backbone._transformer
    prompt = torch.tensor([ids[: -made.tokens]])
    embeds = transformer.model.embed_tokens(prompt, out_dtype=torch.float32)
    stops = [model.tokenizer.id_of(token) for token in model.family.stop_tokens]
    written = transformer.generate(
        embeds, do_sample=False, max_length=10, stop_tokens=stops, execution_dtype=torch.float32
    )
    assert [token for token in written if token not in stops] == list(ids[-made.tokens :])


def test_a_qwen25_clip_has_no_head_to_write_with(native, as_vlm):
    with pytest.raises(ValueError, match="Qwen2.5-VL without its LM head.*VLM Loader"):
        as_vlm(native("qwen-image")).rewrite(TEXT)


def test_a_text_model_writes(native, as_vlm):
    assert as_vlm(native("z-image")).rewrite(TEXT, **GREEDY).tokens > 0
