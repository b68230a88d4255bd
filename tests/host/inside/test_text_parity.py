"""Qwen3 from a folder and from the CLIP of a diffusion model: the same weights, the same states."""

from __future__ import annotations

import pytest
from hf_folder import write_folder
from tiny_clips import KINDS, native_encode, ours, tiny_clip, weights_of

TEXTS = ["a red house", "红色的房子 🏠, by the river\n", "", "(a house:1.3) [in] {braces}"]
PARITY = 2e-5  # relative to the largest value, float32


@pytest.fixture(scope="module", params=["z-image", "klein"])
def pair(request, tmp_path_factory):
    """The kind, its CLIP, and VLM Loader's model of the same weights."""
    from pack.vlm import load

    kind = request.param
    layers = KINDS[kind].layers
    folder = tmp_path_factory.mktemp("text") / kind
    write_folder(folder, kind, weights_of(kind, layers), layers)
    return kind, tiny_clip(kind), load(folder, dtype="float32")


@pytest.mark.parametrize("text", TEXTS)
def test_the_states_are_those_of_comfyuis_encoder(pair, text):
    kind, clip, model = pair
    want = native_encode(clip, text)
    found = ours(model, text, kind)
    assert found.shape == want.shape
    assert (found - want).abs().max() <= PARITY * want.abs().max()


@pytest.mark.parametrize("text", TEXTS)
def test_so_are_all_layers_and_roles_of_the_clip_as_a_vlm(pair, text):
    from pack.nodes.clip import vlm_from_clip

    kind, clip, model = pair
    target = KINDS[kind].target
    from_clip = vlm_from_clip(clip, "huggingface", 1024)  # the states hold it weakly
    native = from_clip.encode(text, target=target)
    found = model.encode(text, target=target)
    assert found.prompt.ids == native.prompt.ids and found.token_map == native.token_map
    for layer in range(model.num_layers):
        want = native.layer(layer)
        assert (found.layer(layer) - want).abs().max() <= PARITY * want.abs().max()
