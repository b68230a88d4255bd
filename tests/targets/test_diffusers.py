"""Rows of targets against diffusers' pipelines around tiny random weights, in float32."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from pipelines import ORACLES, minimax_h3_state, qwen_image_21_pictures
from results import record

import vlm

TEXTS = {
    "words": "a red house by the river, 红色的房子 🏠",
    "long": "a red house on a green hill under a blue sky, " * 12,
}
CLOSE = 1e-5
pytestmark = pytest.mark.slow


def picture(height, width, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def difference(found, want):
    """The largest difference, relative to the largest value."""
    assert found.shape == want.shape
    return ((found - want).abs().max() / want.abs().max()).item()


def check(tiny, name, text, images):
    oracle = ORACLES[name]
    ours, hf = tiny(oracle.family, oracle.layers)
    target = name.split()[0]
    with torch.no_grad():
        want = oracle.encode(hf, text, images)
    t = vlm.select_layers(ours.encode(text, images, target=target))
    found = difference(t.states, want)
    record(target, f"diffusers {oracle.name}", diffusers.__version__, len(images), found)
    assert found <= CLOSE
    assert t.states.std() > 0.01


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", [name for name in ORACLES if "picture" not in name])
def test_words(tiny, name, text):
    check(tiny, name, TEXTS[text], [])


@pytest.mark.parametrize(
    ("name", "count"),
    [(name, count + 1) for name, row in ORACLES.items() for count in range(len(row.sizes))],
)
def test_pictures(tiny, name, count):
    images = [picture(*size, seed) for seed, size in enumerate(ORACLES[name].sizes[:count])]
    check(tiny, name, TEXTS["words"], images)


def test_qwen_image_21_puts_latents_where_the_pictures_were(tiny):
    """The places that its pipeline keeps for pictures, as numbers of tokens before each."""
    oracle = ORACLES["qwen-image-2.1-edit"]
    ours, hf = tiny(oracle.family, oracle.layers)
    images = [picture(*size, seed) for seed, size in enumerate(oracle.sizes)]
    with torch.no_grad():
        _, is_picture = qwen_image_21_pictures(hf, TEXTS["words"], images)
    begins = is_picture & ~torch.cat([torch.tensor([False]), is_picture[:-1]])
    want = [int((~is_picture[:at]).sum()) for at in begins.nonzero()[:, 0]]
    t = vlm.select_layers(ours.encode(TEXTS["words"], images, target="qwen-image-2.1-edit"))
    assert t.beside == {"image_slots": want} and len(want) == 2
    words = vlm.select_layers(ours.encode(TEXTS["words"], target="qwen-image-2.1-edit"))
    assert words.beside == {}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_minimax_h3_tags_pictures_and_words(tiny, count):
    oracle = ORACLES["minimax-h3"]
    ours, hf = tiny(oracle.family, oracle.layers)
    images = [picture(*size, seed) for seed, size in enumerate(oracle.sizes[:count])]
    with torch.no_grad():
        want = minimax_h3_state(hf, TEXTS["words"], images).get("text_token_tags")
    t = vlm.select_layers(ours.encode(TEXTS["words"], images, target="minimax-h3"))
    assert list(t.beside) == ["minimax_token_tags"]
    assert torch.equal(t.beside["minimax_token_tags"], want)
