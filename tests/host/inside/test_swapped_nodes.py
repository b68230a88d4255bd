"""Our nodes in place of a model's own encode node, reference latents by ComfyUI's other nodes."""

from __future__ import annotations

import pytest
import torch
from comfy_extras.nodes_boogu import TextEncodeBooguEdit
from comfy_extras.nodes_edit_model import ReferenceLatent
from comfy_extras.nodes_joyimage import TextEncodeJoyImageEdit
from comfy_extras.nodes_mage import TextEncodeMageFlowEdit
from comfy_extras.nodes_post_processing import ImageScaleToTotalPixels
from comfy_extras.nodes_qwen import TextEncodeQwenImageEdit, TextEncodeQwenImageEditPlus
from native_nodes import native as native_words
from native_nodes import numbered
from test_native_rows import CLIPS, same
from tiny_clips import tiny_clip

from nodes import ImageScale, VAEEncode

TEXT = "a red house"
SIZES = [(96, 160), (208, 112)]


class Means:
    """A VAE whose latents are means of 16 x 16 pixels."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 16)


def of_a_megapixel(steps: int):
    """Scale Image to Total Pixels."""
    return lambda picture: ImageScaleToTotalPixels.execute(picture, "area", 1.0, steps).result[0]


def to_size(way: str, height: int, width: int, crop: str):
    """Upscale Image."""
    return lambda picture: ImageScale().upscale(picture, way, width, height, crop)[0]


# Target: its own node, and what resizes a picture before VAE Encode.
SWAPPED = {
    "qwen-image": (TextEncodeQwenImageEdit, of_a_megapixel(1)),
    "qwen-image-edit-plus": (TextEncodeQwenImageEditPlus, of_a_megapixel(8)),
    "krea2-edit": (TextEncodeQwenImageEditPlus, of_a_megapixel(8)),
    "mage-flow": (TextEncodeMageFlowEdit, to_size("bicubic", *SIZES[0], "disabled")),
    "boogu": (TextEncodeBooguEdit, of_a_megapixel(16)),
    "joyimage": (TextEncodeJoyImageEdit, to_size("bilinear", 768, 1280, "center")),
}
# What each node calls its pictures.
INPUTS = {
    "qwen-image": lambda pictures: {"image": pictures[0]},
    "qwen-image-edit-plus": lambda pictures: numbered(pictures, "image{}"),
    "krea2-edit": lambda pictures: numbered(pictures, "image{}"),
}


def native(target: str, clip, pictures):
    """The positive CONDITIONING of its own node, with a VAE."""
    given = INPUTS.get(target, lambda them: {"images": numbered(them)})(pictures)
    if target in ("mage-flow", "boogu"):
        given["negative_prompt"] = ""
    return SWAPPED[target][0].execute(clip, TEXT, vae=Means(), **given).result[0]


def encoded(target: str, clip, pictures):
    """VLM From CLIP, VLM Encode, Hidden Layer Select."""
    from pack.nodes.clip import VLMFromCLIP
    from pack.nodes.encode import VLMEncode
    from pack.nodes.select import HiddenLayerSelect

    (model,) = VLMFromCLIP.execute(clip, "comfyui", 0).args
    images = {f"image{number}": picture for number, picture in enumerate(pictures)}
    (states,) = VLMEncode.execute(model, TEXT, target, images).args
    return HiddenLayerSelect.execute(states, "auto").args[0]


def ours(target: str, clip, pictures):
    """Our nodes; then Reference Latent for each picture."""
    conditioning = encoded(target, clip, pictures)
    for picture in pictures:
        (latent,) = VAEEncode().encode(Means(), SWAPPED[target][1](picture))
        (conditioning,) = ReferenceLatent.execute(conditioning, latent).result
    return conditioning


@pytest.mark.parametrize("target", SWAPPED)
def test_only_widgets_are_changed(picture, target):
    from pack.vlm.conditioning.entries import MAP

    clip = tiny_clip(CLIPS[target])
    pictures = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    pictures = pictures[:1] if target in ("qwen-image", "joyimage") else pictures
    ((states, options),) = ours(target, clip, pictures)
    ((want, native_options),) = native(target, clip, pictures)
    assert torch.equal(states, want)
    assert options.keys() - {MAP} == native_options.keys()
    for key, value in native_options.items():
        if key != "reference_latents":
            assert same(options[key], value), key
            continue
        assert len(value) == len(options[key]) == len(pictures)
        assert all(torch.equal(a, b) for a, b in zip(options[key], value, strict=True))


# Rows whose own node brings no reference latents, or, as MiniMax H3's, keeps them for itself.
WITHOUT_LATENTS = {
    "z-image": 0, "flux2-klein-4b": 0, "flux2-klein-9b": 0, "krea2": 0, "hunyuan-image": 0,
    "ideogram4": 0, "minimax-h3": 2,
}  # fmt: skip


@pytest.mark.parametrize("target", [each for each in WITHOUT_LATENTS if each in CLIPS])
def test_our_nodes_in_place_of_the_text_encode_node(picture, target):
    from pack.vlm.conditioning.entries import MAP

    clip = tiny_clip(CLIPS[target])
    pictures = [picture(*size) for size in SIZES[: WITHOUT_LATENTS[target]]]
    ((states, options),) = encoded(target, clip, pictures)
    ((want, native_options),) = native_words(target, clip, TEXT, pictures)
    assert torch.equal(states, want)
    assert options.keys() - {MAP} == native_options.keys()
    assert all(same(options[key], value) for key, value in native_options.items())


def test_every_row_with_a_node_of_its_own_is_here():
    assert set(SWAPPED) | set(WITHOUT_LATENTS) | {"qwen-image-2.1", "qwen-image-2.1-edit"} >= set(
        CLIPS
    )
