"""Every target's row against ComfyUI's own encode node at defaults, bit for bit."""

from __future__ import annotations

import comfyui_version
import pytest
import torch
from native_nodes import ALSO_WORDS, NODES, WITH_PICTURES, WORDS_NODE, native
from results import record
from tiny_clips import EVERY, tiny_clip

# The target, and the CLIP that reads for it.
CLIPS = {
    "z-image": "z-image",
    "flux2-klein-4b": "klein",
    "flux2-klein-9b": "klein-9b",
    "krea2": "krea2",
    "krea2-edit": "krea2",
    "qwen-image": "qwen-image",
    "qwen-image-edit-plus": "qwen-image",
    "hunyuan-image": "hunyuan-image",
    "mage-flow": "mage-flow",
    "boogu": "boogu",
    "joyimage": "joyimage",
    "ideogram4": "ideogram4",
}
if "minimax-h3" in EVERY:
    CLIPS["minimax-h3"] = "minimax-h3"
if "qwen-image-2.1" in EVERY:
    CLIPS |= dict.fromkeys(["qwen-image-2.1", "qwen-image-2.1-edit"], "qwen-image-2.1")
WORDS = {
    "words": "a red house, 红色的房子 🏠",
    "none": "",
    "blank": "  \n",
    "long": "a red house on a green hill under a blue sky, " * 60,
    "odd": 'it\'s a "sign" {that} says\n\t50 % <off>',
}
SIZES = [(200, 330), (129, 95), (37, 211), (512, 768), (900, 300)]
# TextEncodeQwenImageEdit takes one.
MOST = {"qwen-image": 1}


@pytest.fixture(scope="module", params=CLIPS)
def row(request):
    """A target, its CLIP and VLM From CLIP of it."""
    from pack.nodes.clip import vlm_from_clip

    clip = tiny_clip(CLIPS[request.param])
    # Beginnings that are reused would differ in the last bit.
    return request.param, clip, vlm_from_clip(clip, "comfyui", 0)


def ours(model, target, text, pictures):
    """What VLM Encode and Hidden Layer Select make of it at defaults."""
    from pack.vlm.conditioning.entries import MAP, Entry, write_entries
    from pack.vlm.tokens.select import select_layers

    h = model.encode(text, pictures, target=target)
    entries = write_entries([Entry(select_layers(h), h.options)])
    return [
        [tensor, {key: value for key, value in options.items() if key != MAP}]
        for tensor, options in entries
    ]


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def assert_equal(target, pictures, found, want):
    ((tensor, options),), ((native_tensor, native_options),) = found, want
    assert tensor.shape == native_tensor.shape
    assert torch.equal(tensor, native_tensor)
    assert options.keys() == native_options.keys()
    for key, value in options.items():
        assert same(value, native_options[key]), key
    oracle = "ComfyUI " + (NODES[target] if pictures or target in ALSO_WORDS else WORDS_NODE)
    record(target, oracle, comfyui_version.__version__, len(pictures), 0.0, options)


@pytest.mark.parametrize("words", WORDS)
def test_words(row, words):
    target, clip, model = row
    want = native(target, clip, WORDS[words], [])
    assert_equal(target, [], ours(model, target, WORDS[words], []), want)
    assert want[0][0].std() > 0.01


def pictures_of(picture, count: int):
    return [picture(*size, seed) for seed, size in enumerate(SIZES[:count])]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_a_picture(row, picture, size):
    target, clip, model = row
    if target not in WITH_PICTURES:
        return
    text, seen = WORDS["words"], [picture(*size)]
    want = native(target, clip, text, seen)
    assert_equal(target, seen, ours(model, target, text, seen), want)
    assert not torch.equal(ours(model, target, text, [1 - seen[0]])[0][0], want[0][0])


@pytest.mark.parametrize("count, words", [(2, "none"), (3, "words")])
def test_several_pictures(row, picture, count, words):
    target, clip, model = row
    if target not in WITH_PICTURES or count > MOST.get(target, 3):
        return
    seen = pictures_of(picture, count)
    want = native(target, clip, WORDS[words], seen)
    assert_equal(target, seen, ours(model, target, WORDS[words], seen), want)


def test_a_whole_qwen3_vl_norms_ideograms_last_layer(as_vlm):
    """ComfyUI norms the last of the thirteen where the file has a norm, diffusers never does."""
    from pack.vlm.tokens.select import select_layers

    clip = tiny_clip("ideogram4-vl")
    ((want, _),) = native("ideogram4", clip, WORDS["words"], [])
    h = as_vlm(clip, prefix_cache_mb=0).encode(WORDS["words"], target="ideogram4")
    assert torch.equal(select_layers(h, final_norm=True).states, want)
    raw = select_layers(h).states
    differs = (raw != want).unflatten(2, (64, 13)).any(dim=2).any(dim=1)[0]
    assert differs.tolist() == [False] * 12 + [True]


def read_by_a_neighbour(conditioning):
    """What a pack that reads the mask does with a CONDITIONING: masked tokens become nothing."""
    return [
        [states * options["attention_mask"].unsqueeze(-1), options]
        for states, options in conditioning
    ]


@pytest.mark.parametrize("row", ["flux2-klein-4b", "flux2-klein-9b"], indirect=True)
def test_a_pack_that_reads_kleins_mask_changes_what_it_changes_natively(row):
    target, clip, model = row
    found = ours(model, target, WORDS["words"], [])
    want = read_by_a_neighbour(native(target, clip, WORDS["words"], []))
    assert_equal(target, [], read_by_a_neighbour(found), want)
    assert not torch.equal(want[0][0], found[0][0])
