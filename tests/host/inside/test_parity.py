"""A native CLIP and a Hugging Face folder with its weights: the same states, map and runs."""

from __future__ import annotations

import random

import pytest
import torch
from hf_folder import write_folder
from tiny_clips import tiny_clip, weights_of

LAYERS = 30
TEXT = "a red house, 红色的房子 🏠"
PARITY = 2e-5  # relative to the largest value, float32; measured 2.5e-6


@pytest.fixture(scope="module", params=["krea2", "qwen-image"])
def pair(request, tmp_path_factory):
    """VLM From CLIP and VLM Loader's model, of the same weights."""
    from pack.nodes.clip import vlm_from_clip
    from pack.vlm import load

    clip = tiny_clip(request.param, num_hidden_layers=LAYERS)
    weights = weights_of(request.param, LAYERS)
    folder = tmp_path_factory.mktemp("hf") / request.param
    write_folder(folder, request.param, weights, LAYERS)
    return vlm_from_clip(clip, "huggingface", 1024), load(folder, dtype="float32"), clip


@pytest.fixture(autouse=True)
def fresh(pair):
    for model in pair[:2]:
        model.prefix_cache.clear()


def prompts(picture):
    one, two = picture(200, 330), picture(129, 95, 1)
    moving = torch.cat([picture(96, 128, seed) for seed in range(9)])
    return {
        "words": {},
        "a picture": {"images": [one]},
        "two pictures": {"images": [one, two]},
        "a video": {"video": moving, "fps": 4.0},
        "a picture and a video": {"images": [two], "video": moving[:4], "fps": 2.0},
    }


WHAT = ["words", "a picture", "two pictures", "a video", "a picture and a video"]


def differ(a, b) -> float:
    """The largest difference of any layer, relative to that layer's largest value."""
    assert a.shape == b.shape
    scale = b.abs().amax(dim=(0, 2, 3), keepdim=True)
    return ((a - b).abs() / scale).max().item()


@pytest.mark.parametrize("what", WHAT)
def test_all_layers_are_the_same(pair, picture, what):
    native, hf = (model.encode(TEXT, **prompts(picture)[what]) for model in pair[:2])
    assert native.token_map == hf.token_map
    assert native.prompt.ids == hf.prompt.ids
    every = list(range(native.num_layers))
    assert native.num_layers == hf.num_layers == LAYERS + 1
    assert differ(native.layers(every), hf.layers(every)) <= PARITY
    bare = native.layers([-1], final_norm=False)
    assert differ(bare, hf.layers([-1], final_norm=False)) <= PARITY
    assert differ(native.layers([-1]), bare) > 0.01
    if what != "words":
        roles = native.token_map["role"]
        image = [i for i, role in enumerate(roles) if role == "image"]
        assert native.layer(3)[:, image].std(dim=1).mean() > 0.1  # the pictures are in there


@pytest.mark.parametrize("order", [[8, 20, 28], [28, 8, 20], [20, 28, 8]])
def test_layers_in_any_order_cost_one_run(pair, picture, counted, order):
    native, hf, _ = pair
    ran = counted(native)
    h = native.encode(TEXT, images=[picture(70, 90)])
    stacked = h.layers(order)
    again = torch.stack([h.layer(k) for k in order], dim=1)
    assert ran == [(layer, h.n) for layer in range(28)]
    assert torch.equal(stacked, again)
    assert differ(stacked, hf.encode(TEXT, images=[picture(70, 90)]).layers(order)) <= PARITY


def test_a_deeper_layer_resumes(pair, picture, counted):
    native = pair[0]
    straight = native.encode(TEXT, images=[picture(70, 90)], depth=28)
    native.prefix_cache.clear()
    ran = counted(native)
    h = native.encode(TEXT, images=[picture(70, 90)], depth=1)  # within DeepStack
    for depth in random.Random(3).sample(range(2, 29), 6) + [28]:
        h.reach(depth)
    assert [layer for layer, _ in ran] == list(range(28))
    assert torch.equal(h.layers(range(29)), straight.layers(range(29)))


def test_a_known_beginning_is_not_run_again(pair, picture, counted):
    native, hf, _ = pair
    images = [picture(200, 330)]
    for model in (native, hf):
        model.encode("something else entirely", images=images, target="qwen-image", depth=25)
    h = native.encode(TEXT, images=images, target="qwen-image")
    ran = counted(native)
    seen = []
    handle = native.backbone.visual.register_forward_pre_hook(lambda *_: seen.append(1))
    again = h.layers([20])
    handle.remove()
    prefix = h.prompt.prefix
    assert prefix > 50 and h.reused_tokens == prefix
    assert ran == [(layer, h.n - prefix) for layer in range(20)] and seen == []
    theirs = hf.encode(TEXT, images=images, target="qwen-image")
    assert differ(again, theirs.layers([20])) <= PARITY
    assert theirs.reused_tokens == prefix
    h.reach(29)  # deeper than the prefix went: its tokens join from there on
    assert [tokens for layer, tokens in ran if layer >= 25] == [h.n] * 4
    native.prefix_cache.clear()
    whole = native.encode(TEXT, images=images, target="qwen-image").layers([20, 29])
    assert differ(h.layers([20, 29]), whole) <= 1e-5


def test_pads_are_not_looked_at(pair):
    native, hf, _ = pair
    padded = [model.encode("a", target="flux2-klein-4b") for model in (native, hf)]
    ours, theirs = (states.layers([9, 18, 27]) for states in padded)
    assert ours.shape[2] == 512 and padded[0].token_map == padded[1].token_map
    assert differ(ours, theirs) <= PARITY
