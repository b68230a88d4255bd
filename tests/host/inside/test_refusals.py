"""CLIPs that VLM From CLIP cannot run, and what it cannot do with those it runs."""

from __future__ import annotations

import types

import comfy.model_patcher
import comfy.ops
import comfy.sd1_clip
import comfy.text_encoders.flux
import comfy.text_encoders.llama
import comfy.text_encoders.pixart_t5
import pytest
import torch
from PIL import Image
from tiny_clips import EVERY, KINDS, make_clip, native_encode, tiny_clip

WHAT_WORKS = r"qwen_2\.5_vl_7b_fp8_scaled\.safetensors with type qwen_image"


LLAMA = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 32}
T5 = {"d_ff": 8, "d_kv": 8, "d_model": 8, "num_heads": 1, "num_layers": 1}
CLIP_L = {
    "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8
}  # fmt: skip
# Qwen25_3B is OmniGen2's, which cannot see.
LANGUAGE_MODELS = ("Qwen25_3B", "Gemma2_2B", "Llama2", "Ministral3_3B")


def clip_around(transformer: torch.nn.Module) -> types.SimpleNamespace:
    """A CLIP of one text encoder, wrapped as comfy.sd1_clip.SD1ClipModel wraps it."""
    stage = torch.nn.Module()
    stage.clip, stage.encoder = "encoder", torch.nn.Module()
    stage.encoder.transformer = transformer
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(stage, load_device=cpu, offload_device=cpu)
    return types.SimpleNamespace(
        cond_stage_model=stage, patcher=patcher, use_clip_schedule=False,
        add_hooks_to_dict=lambda options: options,
    )  # fmt: skip


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_other_language_models_are_refused_by_name(as_vlm, name):
    make = getattr(comfy.text_encoders.llama, name)
    clip = clip_around(make(LLAMA, torch.float32, "cpu", comfy.ops.manual_cast))
    with pytest.raises(ValueError, match=f"This CLIP is a {name}, which.*{WHAT_WORKS}"):
        as_vlm(clip)


def test_t5_is_refused(as_vlm):
    pixart = comfy.text_encoders.pixart_t5
    clip = make_clip(pixart.pixart_te(), pixart.PixArtTokenizer, {"t5xxl": T5})
    with pytest.raises(ValueError, match=f"This CLIP is a T5, which.*{WHAT_WORKS}"):
        as_vlm(clip)


def test_clip_l_is_refused(as_vlm):
    parts = comfy.sd1_clip.SD1ClipModel, comfy.sd1_clip.SD1Tokenizer
    with pytest.raises(ValueError, match=f"This CLIP is a CLIPTextModel, which.*{WHAT_WORKS}"):
        as_vlm(make_clip(*parts, {"clip_l": CLIP_L}))


def test_the_two_encoders_of_flux_are_refused(as_vlm):
    flux = comfy.text_encoders.flux
    clip = make_clip(flux.flux_clip(), flux.FluxTokenizer, {"t5xxl": T5, "clip_l": CLIP_L})
    with pytest.raises(ValueError, match=f"holds FluxClipModel_, not one text enc.*{WHAT_WORKS}"):
        as_vlm(clip)


def test_an_empty_clip_says_what_to_connect():
    from pack.nodes.clip import VLMFromCLIP

    with pytest.raises(ValueError, match=r"clip on VLM From CLIP is empty.*Connect Load CLIP"):
        VLMFromCLIP.execute(None, "huggingface")


@pytest.mark.parametrize("kind", ["z-image", "klein", "klein-9b"])
@pytest.mark.parametrize("what", ["images", "video"])
def test_a_text_only_clip_says_which_file_can_see(native, as_vlm, picture, kind, what):
    model = as_vlm(native(kind))
    given = {what: picture(64, 64)}
    with pytest.raises(ValueError) as caught:
        model.encode("x", target=KINDS[kind].target, **given)
    assert "Qwen3, 64 wide" in str(caught.value)
    for file, kind_of_clip in (
        ("qwen_2.5_vl_7b_fp8_scaled.safetensors", "qwen_image"),
        ("qwen3vl_4b_fp8_scaled.safetensors", "krea2"),
    ):
        assert f"{file}) with type {kind_of_clip}" in str(caught.value)
    assert model.encode("x", images=[], target=KINDS[kind].target).n > 0


def test_comfyui_preprocessing_takes_only_image(native, as_vlm):
    model = as_vlm(native("krea2"))
    picture = Image.new("RGB", (64, 64))
    with pytest.raises(TypeError, match="preprocessing to huggingface on VLM From CLIP"):
        model.encode("x", images=[picture])
    assert as_vlm(native("krea2"), "huggingface").encode("x", images=[picture]).has_images
    with pytest.raises(ValueError, match=r"1 or 3 channels|RGB|channels"):
        model.encode("x", images=torch.rand(1, 64, 64, 2))


def test_a_file_cut_before_its_final_norm(as_vlm):
    clip = tiny_clip("z-image", num_hidden_layers=4, final_norm=False)
    model = as_vlm(clip)
    h = model.encode("a red house", target="z-image", depth=-1)
    assert torch.equal(h.layer(-2), native_encode(clip, "a red house"))
    with pytest.raises(ValueError, match=r"cut before its final norm.*`final_norm` off"):
        h.layer(-1)
    last = clip.clone()
    last.clip_layer(-1)
    assert torch.equal(h.layer(-1, final_norm=False), native_encode(last, "a red house"))


def test_a_layer_that_is_not_there(native, as_vlm):
    model = as_vlm(native("z-image"))
    with pytest.raises(ValueError, match="Layer 7 does not exist.*0 to 6"):
        model.encode("x", depth=7)


@pytest.mark.skipif("minimax-h3" not in EVERY, reason="this ComfyUI has no MiniMax H3")
def test_a_file_cut_to_50_layers_asked_for_more(as_vlm):
    """MiniMax H3's: the sentence has the layer that was asked for, and how many there are."""
    model = as_vlm(tiny_clip("minimax-h3"))
    with pytest.raises(ValueError, match=r"Layer 60 does not exist.*0 to 50"):
        model.encode("x", target="minimax-h3", depth=60)
    h = model.encode("x", target="minimax-h3", depth=-1)
    with pytest.raises(ValueError, match=r"cut before its final norm"):
        h.layer(-1)
    with pytest.raises(ValueError, match=r"Layer 51 does not exist.*0 to 50"):
        h.layer(51)
