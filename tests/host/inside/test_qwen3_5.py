"""Qwen3.5 in a CLIP: ComfyUI's own bits for words, transformers' states for pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import comfy.text_encoders.qwen35 as qwen35
import pytest
import torch
from hf_folder import write_folder
from pack.vlm.families import FAMILIES
from tiny_clips import make_clip, transformer_of
from tiny_native.weights import fill, seeded
from transformers.convert_slow_tokenizer import bytes_to_unicode

LAYERS = 8
TEXT = "a red house, 红色的房子 🏠"
PARITY = 5e-5  # relative to the largest value, float32; measured 1e-5
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": LAYERS,
    "num_attention_heads": 2, "num_key_value_heads": 1, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "layer_types": qwen35._qwen35_layer_types(LAYERS),
}  # fmt: skip
KEY = "qwen35_2b"
FIRST_SPECIAL = 248044  # <|endoftext|>


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """ComfyUI's tokenizer of Qwen3.5, in a copy that has a vocab.json where a checkout lacks it."""
    own = Path(qwen35.__file__).parent / "qwen35_tokenizer"
    copy = tmp_path_factory.mktemp("comfy") / own.name
    shutil.copytree(own, copy)
    settings = json.loads((copy / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = FAMILIES["qwen3_5"].chat_template
    (copy / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if not (copy / "vocab.json").is_file():
        merges = (copy / "merges.txt").read_text(encoding="utf-8").splitlines()
        words = [*bytes_to_unicode().values(), *("".join(pair.split(" ")) for pair in merges)]
        words += [f"unused {number}" for number in range(len(words), FIRST_SPECIAL)]
        vocabulary = {word: number for number, word in enumerate(words)}
        (copy / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qwen35, "__file__", str(copy.parent / "qwen35.py"))
        yield copy


@pytest.fixture(scope="module")
def clip(tokenizer):
    made = make_clip(qwen35.te(model_type=KEY), qwen35.tokenizer(model_type=KEY), {KEY: SIZES})
    fill(transformer_of(made))
    return made


@pytest.fixture(scope="module")
def pair(clip, tokenizer, tmp_path_factory):
    """VLM From CLIP and VLM Loader's model, of the same weights."""
    from pack.nodes.clip import vlm_from_clip
    from pack.vlm import load

    weights = {
        name: seeded(name, tuple(tensor.shape)).contiguous()
        for name, tensor in transformer_of(clip).state_dict().items()
    }
    folder = tmp_path_factory.mktemp("hf") / "qwen3.5"
    write_folder(folder, "qwen3.5", weights, LAYERS)
    hf = load(folder, dtype="float32", tokenizer=tokenizer)
    return vlm_from_clip(clip, "huggingface", 1024), hf


def native_states(clip, ids: list[int], layer: int | str) -> torch.Tensor:
    """The CLIP's own states of token ids, by ComfyUI's number of a layer."""
    stage = clip.cond_stage_model
    stage.reset_clip_options()
    stage.set_clip_options({"layer": layer, "execution_device": torch.device("cpu")})
    return stage.encode_token_weights({KEY: [[(number, 1.0) for number in ids]]})[0]


def differ(a, b) -> float:
    """The largest difference of any layer, relative to that layer's largest value."""
    assert a.shape == b.shape
    return ((a - b).abs() / b.abs().amax(dim=(0, 2, 3), keepdim=True)).max().item()


@pytest.mark.parametrize("layer", [-2, -5])
def test_words_give_the_clips_own_bits(clip, pair, layer):
    h = pair[0].encode(TEXT, target="chat", depth=-1)
    want = native_states(clip, list(h.prompt.ids), layer)
    assert torch.equal(h.layer(layer), want)
    assert want.std() > 0.1


def prompts(picture):
    one, two = picture(200, 330), picture(129, 95, 1)
    moving = torch.cat([picture(96, 128, seed) for seed in range(5)])
    return {
        "words": {},
        "two pictures": {"images": [one, two]},
        "a video": {"video": moving, "fps": 2.0},
        "pads behind": {"images": [two], "target": "flux2-klein-4b"},
        "pads in front": {"images": [two], "target": "flux1", "template": "x2i"},
    }


@pytest.mark.parametrize(
    "what", ["words", "two pictures", "a video", "pads behind", "pads in front"]
)
def test_all_layers_are_transformers_own(pair, picture, what):
    native, hf = (model.encode(TEXT, **prompts(picture)[what]) for model in pair)
    assert native.prompt.ids == hf.prompt.ids and native.token_map == hf.token_map
    every = list(range(LAYERS + 1))
    ours, theirs = native.layers(every), hf.layers(every)
    real = slice(native.prompt.left, native.prompt.real)
    assert differ(ours[:, :, real], theirs[:, :, real]) <= PARITY


def test_comfyuis_places_of_a_picture_would_be_others(clip, pair, picture):
    """Side by side instead of interleaved: what its own Generate Text does with a picture."""
    h = pair[0].encode(TEXT, images=[picture(200, 330)])
    hidden = torch.zeros(1, 4, 64)
    places = torch.tensor([[5, 5, 5, 5], [5, 5, 6, 6], [5, 6, 5, 6]])
    ours = pair[0].backbone.rotary(hidden, places)
    theirs = transformer_of(clip).model.compute_freqs_cis(places, hidden.device)
    assert [part.shape for part in ours] == [part.shape for part in theirs]
    assert not torch.equal(ours[0], theirs[0]) and h.has_images


@pytest.mark.parametrize("with_picture", [False, True])
def test_it_writes_what_the_folder_writes(pair, picture, with_picture):
    images = [picture(129, 95)] if with_picture else None
    answers = [
        model.rewrite(TEXT, images=images, max_tokens=12, temperature=2.0, top_k=0, seed=1)
        for model in pair
    ]
    assert answers[0].text == answers[1].text and answers[0].text.strip()
    states = [answer.states.layer(3) for answer in answers]
    assert (states[0] - states[1]).abs().max() <= PARITY * states[1].abs().max()


def test_a_deeper_layer_resumes_and_nothing_of_the_beginning_is_kept(pair, picture):
    native = pair[0]
    images = [picture(90, 70)]
    whole = native.encode(TEXT, images=images, depth=LAYERS).layers(range(LAYERS + 1))
    h = native.encode(TEXT, images=images, depth=2)
    h.reach(LAYERS)
    assert torch.equal(h.layers(range(LAYERS + 1)), whole) and h.reused_tokens == 0
