"""Every wrapper that ComfyUI puts around Qwen3-VL: the same model underneath, the same bits."""

from __future__ import annotations

import importlib
import importlib.util

import comfy.text_encoders.qwen3vl as qwen3vl
import pytest
import torch
from tiny_clips import make_clip, text_config, transformer_of
from tiny_native.weights import fill

LAYERS = 36  # the deepest that a wrapper takes states from
TEXT = "a red house, 红色的房子 🏠"


# Module, what makes the class there and how it is called, and ComfyUI's name of the model.
WRAPPERS = {
    "4B": ("qwen3vl", "te", {"model_type": "qwen3vl_4b"}, "qwen3vl_4b"),
    "8B": ("qwen3vl", "te", {"model_type": "qwen3vl_8b"}, "qwen3vl_8b"),
    "ideogram4": ("ideogram4", "te_qwen3vl", {}, "qwen3vl_8b"),
    "boogu": ("boogu", "te", {}, "qwen3vl_8b"),
    "joyimage": ("joyimage", "te", {}, "qwen3vl_8b"),
    "mage": ("mage_flow", "te", {}, "qwen3vl_4b"),
    "minimax": ("minimax", "te", {}, "qwen3vl_32b"),
}


def is_there(wrapper: str) -> bool:
    """Whether this ComfyUI has the wrapper's module."""
    where = WRAPPERS[wrapper][0]
    return importlib.util.find_spec(f"comfy.text_encoders.{where}") is not None


@pytest.mark.parametrize("wrapper", list(filter(is_there, WRAPPERS)))
def test_it_is_the_model_that_runs(as_vlm, picture, wrapper):
    where, make, options, key = WRAPPERS[wrapper]
    where = importlib.import_module(f"comfy.text_encoders.{where}")
    tokenizer = qwen3vl.tokenizer(model_type=key)
    sizes = text_config(LAYERS) | ({"lm_head": False} if key == "qwen3vl_8b" else {})
    clip = make_clip(getattr(where, make)(**options), tokenizer, {key: sizes})
    transformer = fill(transformer_of(clip))
    model = as_vlm(clip, "huggingface")
    assert model.family.title == "Qwen3-VL" and model.backbone.num_decoder_layers == LAYERS
    h = model.encode(TEXT, target="chat", depth=35)
    embeds = transformer.model.embed_tokens(torch.tensor([h.prompt.ids]), out_dtype=torch.float32)
    layers = [1, 20, 35]
    states = transformer.model(
        None, embeds=embeds, intermediate_output=layers, final_layer_norm_intermediate=False
    )[1]
    assert torch.equal(h.layers(layers), states)
    seen = model.encode(TEXT, images=[picture(90, 70)], target="chat", depth=20)
    assert seen.has_images and seen.layer(20).isfinite().all()
    assert as_vlm(clip.clone()).tokenizer is model.tokenizer  # which takes a second to read
