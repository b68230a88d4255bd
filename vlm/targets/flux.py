"""Rows of Black Forest Labs' models."""

from __future__ import annotations

from dataclasses import replace

from .sizes import MEGAPIXEL
from .target import ALWAYS, POOLED, Target

_KLEIN_4B = Target(
    name="flux2-klein-4b",
    title="FLUX.2 klein 4B",
    encoder="Qwen3-4B",
    template="flux2-klein",
    layers=(9, 18, 27),
    combine="concat",
    width=7680,
    pad_to=512,
    max_pixels=MEGAPIXEL,
    mask=ALWAYS,
    writes=(POOLED,),
    source="ComfyUI comfy/text_encoders/flux.py",
)
_KLEIN_9B = replace(
    _KLEIN_4B, name="flux2-klein-9b", title="FLUX.2 klein 9B", encoder="Qwen3-8B", width=12288
)

FLUX2 = (_KLEIN_4B, _KLEIN_9B)

FLUX3 = (
    Target(
        name="flux3-klein",
        title="FLUX 3 klein",
        encoder="Qwen3-VL-4B",
        template="z-image",
        layers=tuple(range(4, 33, 4)),
        combine="concat",
        width=20480,
        pad_multiple=80,
        pad_position=1,
        most_tokens=8192,
        max_pixels=MEGAPIXEL,
        about_pictures="FLUX 3 klein takes its references through the VAE: pictures in its prompt "
        "are an experiment of this pack.",
        source="diffusers modular_pipelines/flux3/encoders.py; it cuts at 8192 tokens, here that "
        "is only warned of",
    ),
)

_PICTURE_ALONE = Target(
    name="qwen2vl-flux",
    title="FLUX.1 (Qwen2VL-Flux)",
    encoder="Qwen2-VL-7B",
    template="qwen2vl-flux",
    layers=None,
    width=4096,
    pooled=768,
    min_pixels=512 * 28 * 28,
    max_pixels=512 * 28 * 28,
    source="Qwen2VL-Flux's model.py: a picture alone",
)

FLUX1 = (
    Target(
        name="flux1",
        title="FLUX.1",
        encoder="T5-XXL",
        template="chat",
        layers=None,
        width=4096,
        pooled=768,
        pad_side="left",
        source="X2I: a connector maps all layers of a VLM; its templates say how far to pad",
    ),
    _PICTURE_ALONE,
    replace(
        _PICTURE_ALONE,
        name="qwen2vl-flux-text",
        title="FLUX.1 (Qwen2VL-Flux with T5 text)",
        min_pixels=256 * 28 * 28,
        max_pixels=256 * 28 * 28,
        source="Qwen2VL-Flux's model.py: a picture and a prompt for T5",
    ),
)
