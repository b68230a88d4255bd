"""Left padding through a native text encoder: the rows of a Hugging Face folder, pad rows too."""

from __future__ import annotations

import pytest
import torch
from hf_folder import write_folder
from tiny_clips import tiny_clip, weights_of

LAYERS = 6
PARITY = 2e-5  # relative to the largest value, float32


@pytest.fixture(scope="module", params=["krea2", "qwen-image"])
def pair(request, tmp_path_factory):
    """VLM From CLIP and VLM Loader's model, of the same weights."""
    from pack.nodes.clip import vlm_from_clip
    from pack.vlm import load

    clip = tiny_clip(request.param, num_hidden_layers=LAYERS)
    folder = tmp_path_factory.mktemp("padded") / request.param
    write_folder(folder, request.param, weights_of(request.param, LAYERS), LAYERS)
    return vlm_from_clip(clip, "huggingface", 1024), load(folder, dtype="float32")


@pytest.mark.parametrize("with_picture", [False, True])
def test_every_row_of_every_layer(pair, picture, with_picture):
    images = [picture(129, 95)] if with_picture else []
    native, hf = (
        model.encode("two boats", images=images, target="flux1", template="x2i") for model in pair
    )
    pads = native.prompt.left
    assert native.prompt.ids == hf.prompt.ids and pads == hf.prompt.left > 100
    every = list(range(LAYERS + 1))
    ours, theirs = native.layers(every), hf.layers(every)
    scale = theirs.abs().amax(dim=(0, 2, 3), keepdim=True)
    assert ((ours - theirs).abs() / scale).max() <= PARITY
    # Attention gives a pad token nothing, so all of them are alike.
    rows = ours[0, :, :pads]
    assert (rows - rows[:, :1]).abs().max() <= 1e-4 * scale.max()


def test_the_attention_of_pads_in_front_is_zero():
    from pack.vlm.running.native import NativeMask

    mask = NativeMask(torch.zeros(1, 1, 4, 4), 2)
    seen = mask.blinded(lambda states: states + 1)(torch.zeros(1, 4, 3))
    assert torch.equal(seen[0, :, 0], torch.tensor([0.0, 0.0, 1.0, 1.0]))

    def plain(states):
        return states

    assert NativeMask(mask.added, 0).blinded(plain) is plain
