"""Rows of the Qwen-Image models, and of HunyuanImage, which reads the same text encoder."""

from __future__ import annotations

from dataclasses import replace

from ..pictures.native_resize import AREA, LANCZOS, NativeResize, of_area
from .sizes import MEGAPIXEL, NATIVE_LEAST, NATIVE_MOST, TO_SMALL
from .target import PADDED, POOLED, SLOTS, Target

_EDIT = Target(
    name="qwen-image",
    title="Qwen-Image",
    encoder="Qwen2.5-VL-7B",
    template="qwen-image",
    layers=(-1,),
    width=3584,
    drop="prefix",
    min_pixels=NATIVE_LEAST,
    max_pixels=NATIVE_MOST,
    resize=NativeResize(of_area(MEGAPIXEL), AREA),
    mask=PADDED,
    writes=(POOLED,),
    takes_embeddings=False,
    norms_tokens=True,
    source="ComfyUI comfy/text_encoders/qwen_image.py; with a picture its TextEncodeQwenImageEdit, "
    "which takes one: several are laid out as one is",
)
_PROMPT_ALONE = Target(
    name="qwen-image-2.1",
    title="Qwen-Image 2.1",
    encoder="Qwen3-VL-8B",
    template="qwen-image-2.1",
    layers=(-1,),
    final_norm=False,
    width=4096,
    drop="system",
    min_pixels=NATIVE_LEAST,
    max_pixels=NATIVE_MOST,
    resize=NativeResize(of_area(MEGAPIXEL, multiple=32), LANCZOS),
    most_pictures=16,
    mask=PADDED,
    writes=(POOLED,),
    source="ComfyUI's TextEncodeQwenImage21 without a VAE, comfy/text_encoders/qwen_image21.py",
)

QWEN_IMAGE = (
    _EDIT,
    replace(
        _EDIT,
        name="qwen-image-edit-plus",
        title="Qwen-Image Edit Plus",
        template="qwen-image-edit-plus",
        resize=TO_SMALL,
        most_pictures=3,
        source="ComfyUI's TextEncodeQwenImageEditPlus",
    ),
    _PROMPT_ALONE,
    replace(
        _PROMPT_ALONE,
        name="qwen-image-2.1-edit",
        title="Qwen-Image 2.1 with reference latents",
        writes=(POOLED, SLOTS),
        source="ComfyUI's TextEncodeQwenImage21 with a VAE, comfy/text_encoders/qwen_image21.py",
    ),
    Target(
        name="hunyuan-image",
        title="HunyuanImage 2.1",
        encoder="Qwen2.5-VL-7B",
        template="hunyuan-image",
        layers=(-3,),
        width=3584,
        drop="prefix",
        most_tokens=1000,
        max_pixels=768 * 768,  # a picture and words stay under its most tokens
        mask=PADDED,
        writes=(POOLED,),
        takes_embeddings=False,
        about_pictures="HunyuanImage's own encoder reads words only: pictures in its prompt are an "
        "experiment of this pack.",
        about_quotes="HunyuanImage reads quoted words through ByT5 as well, which no VLM gives: "
        "letters come out worse than with its own encoder.",
        source="ComfyUI comfy/text_encoders/hunyuan_image.py; diffusers cuts words at 1000 tokens",
    ),
)
