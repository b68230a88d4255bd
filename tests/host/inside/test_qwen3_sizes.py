"""Sizes of Qwen3 and Qwen3-VL that ComfyUI's loader knows and no target of ours reads.

Qwen3 4B and 8B and Qwen3-VL 4B, 8B and 32B as text encoders of targets are in test_native_rows.py.
"""

from __future__ import annotations

import comfy.text_encoders.anima as anima
import comfy.text_encoders.ovis as ovis
import comfy.text_encoders.qwen3vl as qwen3vl
import pytest
import torch
from tiny_clips import make_clip, text_config, transformer_of
from tiny_native.weights import fill

LAYERS = 6
TEXT = "a red house by the sea, 红色的房子 🏠"
ALONE = {
    "Qwen3 0.6B (Anima)": (anima.te, anima.AnimaTokenizer, "qwen3_06b"),
    "Qwen3 1.7B (Ovis)": (ovis.te, ovis.OvisTokenizer, "qwen3_2b"),
    "Qwen3-VL 4B": (
        lambda: qwen3vl.te(model_type="qwen3vl_4b"), qwen3vl.tokenizer("qwen3vl_4b"), "qwen3vl_4b"
    ),
    "Qwen3-VL 8B": (
        lambda: qwen3vl.te(model_type="qwen3vl_8b"), qwen3vl.tokenizer("qwen3vl_8b"), "qwen3vl_8b"
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", ALONE)
def test_its_states_are_the_clips_own_bits(size, as_vlm):
    make, tokenizer, key = ALONE[size]
    clip = make_clip(make(), tokenizer, {key: text_config(LAYERS)})
    fill(transformer_of(clip))
    model = as_vlm(clip)
    assert model.family.title == ("Qwen3-VL" if "VL" in size else "Qwen3")
    h = model.encode(TEXT, template="raw", depth=LAYERS - 1)
    encoder = getattr(clip.cond_stage_model, key)
    encoder.set_clip_options({"layer": -2, "execution_device": torch.device("cpu")})
    want = encoder.encode_token_weights([[(number, 1.0) for number in h.prompt.ids]])[0]
    assert torch.equal(h.layer(LAYERS - 1), want) and want.std() > 0.1
