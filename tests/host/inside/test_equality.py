"""VLM From CLIP against the CLIP's own encode: the same bits, and the CLIP stays as it was."""

from __future__ import annotations

import pytest
import torch
from comfy.text_encoders.krea2 import KREA2_TEMPLATE
from tiny_clips import KINDS, handed_on, native_encode, ours, tiny_clip, transformer_of

TEXT = "a red house, 红色的房子 🏠"
EYE = "<|vision_start|><|image_pad|><|vision_end|>"
SIZES = [[(200, 330)], [(200, 330), (129, 95)], [(37, 211)]]


@pytest.mark.parametrize("kind", KINDS)
def test_words_give_the_same_bits(native, as_vlm, kind):
    clip = native(kind)
    want = native_encode(clip, TEXT)
    model = as_vlm(clip)
    assert torch.equal(ours(model, TEXT, kind), want)
    assert torch.equal(ours(as_vlm(clip, "huggingface"), TEXT, kind), want)
    assert want.std() > 0.1 and not torch.equal(want[0, 0], want[0, 1])


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "+".join(f"{h}x{w}" for h, w in sizes))
def test_krea2_sees_the_same(native, as_vlm, picture, sizes):
    clip = native("krea2")
    images = [picture(*size, seed) for seed, size in enumerate(sizes)]
    template = KREA2_TEMPLATE.replace("user\n{}", "user\n" + EYE * len(images) + "{}")
    want = native_encode(clip, TEXT, images=images, llama_template=template)
    assert torch.equal(ours(as_vlm(clip), TEXT, "krea2", images=images), want)
    assert not torch.equal(
        ours(as_vlm(clip), TEXT, "krea2", images=[1 - images[0], *images[1:]]), want
    )


@pytest.mark.parametrize("size", [(200, 330), (129, 95), (37, 211)])
def test_qwen_image_sees_the_same(native, as_vlm, picture, size):
    clip = native("qwen-image")
    image = picture(*size)
    want = native_encode(clip, TEXT, images=handed_on("qwen-image", [image]))
    assert torch.equal(ours(as_vlm(clip), TEXT, "qwen-image", images=[image]), want)
    # 8-bit values, antialiased bicubic: other pixels of the same picture, hence other states.
    family = ours(as_vlm(clip, "huggingface"), TEXT, "qwen-image", images=[image])
    assert family.shape == want.shape and not torch.equal(family, want)


def test_qwen_image_sees_two_pictures_the_same(native, as_vlm, picture):
    clip = native("qwen-image")
    images = [picture(200, 330), picture(129, 95, 1)]
    template = clip.tokenizer.llama_template_images.replace(EYE, EYE * 2)
    seen = handed_on("qwen-image", images)
    want = native_encode(clip, TEXT, images=seen, llama_template=template)
    assert torch.equal(ours(as_vlm(clip), TEXT, "qwen-image", images=images), want)


@pytest.mark.parametrize("kind", ["krea2", "qwen-image"])
def test_the_clip_stays_as_it_was(kind, as_vlm, picture):
    clip = tiny_clip(kind, num_hidden_layers=36 if kind == "krea2" else 4)
    stage = clip.cond_stage_model
    before = native_encode(clip, TEXT)

    def facts():
        encoder = getattr(stage, stage.clip)
        options = (encoder.layer, encoder.layer_idx, encoder.execution_device)
        weights = {name: tensor.data_ptr() for name, tensor in stage.state_dict().items()}
        flags = (clip.layer_idx, clip.use_clip_schedule, dict(clip.tokenizer_options))
        modes = [module.training for module in stage.modules()]
        return options, encoder.return_projected_pooled, weights, flags, modes

    stage.reset_clip_options()  # as Load CLIP leaves them
    known = facts()
    values = {name: tensor.clone() for name, tensor in stage.state_dict().items()}
    hooks = [m for m in stage.modules() if m._forward_hooks or m._forward_pre_hooks]
    model = as_vlm(clip)
    ours(model, "another prompt", kind, images=[picture(100, 100)])
    model.encode("deeper", target="chat", depth=-1)
    assert facts() == known
    assert hooks == [m for m in stage.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert all(torch.equal(values[name], tensor) for name, tensor in stage.state_dict().items())
    assert torch.equal(native_encode(clip, TEXT), before)


@pytest.mark.parametrize("kind", KINDS)
def test_clip_set_last_layer_counts_where_it_counts_natively(native, as_vlm, kind):
    clip = native(kind)
    plain = native_encode(clip, TEXT)
    changed = clip.clone()
    for layer in (-1, -3):
        changed.clip_layer(layer)
        want = native_encode(changed, TEXT)
        assert torch.equal(ours(as_vlm(changed), TEXT, kind), want)
        listed = kind in ("klein", "klein-9b", "krea2")  # whose wrappers take a list of layers
        assert torch.equal(want, plain) == listed
    assert torch.equal(ours(as_vlm(clip), TEXT, kind), plain)


def test_clip_set_last_layer_beats_the_layer_for_pictures(native, as_vlm, picture):
    clip = native("qwen-image").clone()
    clip.clip_layer(-3)
    image = picture(90, 120)
    want = native_encode(clip, TEXT, images=handed_on("qwen-image", [image]))
    assert torch.equal(ours(as_vlm(clip), TEXT, "qwen-image", images=[image]), want)
    assert len(transformer_of(clip).model.layers) == KINDS["qwen-image"].layers
