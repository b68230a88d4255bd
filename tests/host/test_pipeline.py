"""The main job in a real ComfyUI: picture and words through a VLM to a PNG."""

import pytest
import torch
from graphs import klein, node, z_image
from pack_graphs import blended, conditioning, dump, seen, styled, through_us


@pytest.mark.parametrize(("graph", "target"), [(z_image, "z-image"), (klein, "flux2-klein-4b")])
def test_text_only_equals_native(comfy, qwen3vl, graph, target):
    native = comfy.run(graph()).dump("dump")[0].tensor
    ours = comfy.run(through_us(graph(), target)).dump("dump")[0].tensor
    assert ours.shape == native.shape
    assert (ours - native).abs().max() <= 1e-5 * native.abs().max()


def test_picture_ends_in_png(comfy, qwen3vl):
    result = comfy.run(styled())
    assert "layer 29 of 36" in result.text("layer")  # -8, the research's layer with pictures
    assert "image" not in result.text("filter")
    assert result.text("normal").startswith("global")
    assert result.text("check").startswith("fits Z-Image")
    assert result.images("save")[0].startswith(b"\x89PNG")


def test_alpha_zero_is_the_text(comfy, qwen3vl):
    native = comfy.run(z_image()).dump("dump")[0].tensor
    assert torch.equal(comfy.run(styled(alpha=0.0)).dump("dump")[0].tensor, native)
    assert not torch.equal(comfy.run(styled(alpha=0.3)).dump("dump")[0].tensor, native)


# What a node is called, the input that it must give back, and its settings at strength 0.
NEUTRAL = {
    "Token Filter": ("layer", node("VLMCTokenFilter", tokens=["layer", 0], keep="all")),
    "Per-dim Normalize": (
        "layer",
        node(
            "VLMCPerDimNormalize", conditioning=["layer", 0], mode="per_dim", strength=0.0,
            reference=["words", 0], outliers="clamp", outlier_threshold=1.0,
        ),
    ),
    "Alpha Blend": (
        "words",
        node(
            "VLMCAlphaBlend", text=["words", 0], picture=["layer", 0], alpha=0.0,
            method="adain_per_dim", schedule="linear",
        ),
    ),
    "Alpha Blend (concat)": (
        "words",
        node(
            "VLMCAlphaBlend", text=["words", 0], picture=["layer", 0], alpha=0.0, method="concat"
        ),
    ),
    "Alpha Blend (shorter picture)": (
        "words",
        node(
            "VLMCAlphaBlend", text=["words", 0], picture=["short", 0], alpha=0.0,
            method="adain_global",
        ),
    ),
    "Style Delta": (
        "words",
        node(
            "VLMCStyleDelta", text=["words", 0], styled=["layer", 0], neutral=["other", 0],
            alpha=0.0,
        ),
    ),
    "Time Hand-over": (
        "words",
        node("VLMCTimeHandover", first=["layer", 0], second=["words", 0], percent=0.0),
    ),
}  # fmt: skip


def test_strength_zero_is_the_identity_bit_for_bit(comfy):
    prompt = seen("nothing changes") | {
        "words": conditioning(),
        "other": conditioning("other"),
        "short": conditioning("short", tokens=5),
    }
    for name, (source, neutral) in NEUTRAL.items():
        prompt |= {name: neutral, f"{name} out": dump(name), f"{name} in": dump(source)}
    result = comfy.run(prompt)
    for name in NEUTRAL:
        (after,), (before,) = result.dump(f"{name} out"), result.dump(f"{name} in")
        assert torch.equal(after.tensor, before.tensor), name
        assert after.options == before.options, name


def test_auto_is_per_dim_where_image_tokens_go_on(comfy):
    result = comfy.run(blended("a picture goes on", keep="all"))
    assert result.text("normal").startswith("per_dim")
    assert "image" in result.text("filter")
