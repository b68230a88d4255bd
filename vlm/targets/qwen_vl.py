"""Rows of models that read a Qwen3 or Qwen3-VL text encoder."""

from __future__ import annotations

from dataclasses import replace

from ..pictures.native_resize import (
    BICUBIC,
    BILINEAR,
    LANCZOS,
    NativeResize,
    joyimage_bucket,
    of_area,
    within_edge,
)
from .sizes import MEGAPIXEL, NATIVE_LEAST, NATIVE_MOST, SMALL, TO_SMALL
from .target import ALWAYS, PADDED, POOLED, TAGS, Target

Z_IMAGE = (
    Target(
        name="z-image",
        title="Z-Image",
        encoder="Qwen3-4B",
        template="z-image",
        layers=(-2,),
        layers_with_images=(-8,),
        width=2560,
        most_tokens=1504,
        max_pixels=MEGAPIXEL,
        mask=ALWAYS,
        writes=(POOLED,),
        norms_tokens=True,
        source="ComfyUI comfy/text_encoders/z_image.py; with pictures and most tokens: Qwen3-VL x "
        "Z-Image research, recommended settings",
    ),
)

_KREA2 = Target(
    name="krea2",
    title="Krea 2",
    encoder="Qwen3-VL-4B",
    template="krea2",
    layers=tuple(range(2, 36, 3)),
    combine="concat",
    width=30720,
    drop="prefix",
    most_tokens=512,
    max_pixels=SMALL,  # three pictures and words stay under its most tokens
    mask=PADDED,
    writes=(POOLED,),
    source="ComfyUI comfy/text_encoders/krea2.py; with pictures: this pack's own layout",
)

KREA2 = (
    _KREA2,
    replace(
        _KREA2,
        name="krea2-edit",
        title="Krea 2 with reference latents",
        template="qwen-image-edit-plus",
        min_pixels=NATIVE_LEAST,
        max_pixels=NATIVE_MOST,
        resize=TO_SMALL,
        most_pictures=3,
        source="ComfyUI's TextEncodeQwenImageEditPlus on a CLIP of Krea 2",
    ),
)

OTHERS = (
    Target(
        name="minimax-h3",
        title="MiniMax H3",
        encoder="Qwen3-VL-32B",
        template="minimax-h3",
        layers=(50,),
        final_norm=False,
        width=5120,
        min_pixels=NATIVE_LEAST,
        max_pixels=NATIVE_MOST,
        resize=NativeResize(of_area(1344 * 768, multiple=32, grow=False), LANCZOS, always=True),
        most_pictures=9,
        writes=(POOLED, TAGS),
        about_video="MiniMax H3 reads a video in blocks of two frames with their seconds, and "
        "sound, which this pack does not lay out",
        source="ComfyUI comfy/text_encoders/minimax.py; pictures: its MiniMaxH3ReferenceToVideo at "
        "1344 x 768",
    ),
    Target(
        name="mage-flow",
        title="Mage-Flow",
        encoder="Qwen3-VL-4B",
        template="mage-flow",
        layers=(-1,),
        width=2560,
        drop="prefix",
        min_pixels=NATIVE_LEAST,
        max_pixels=NATIVE_MOST,
        resize=NativeResize(within_edge(384), BICUBIC),
        most_pictures=16,
        mask=PADDED,
        writes=(POOLED,),
        norms_tokens=True,
        source="ComfyUI comfy/text_encoders/mage_flow.py and its TextEncodeMageFlowEdit",
    ),
    Target(
        name="boogu",
        title="Boogu",
        encoder="Qwen3-VL-8B",
        template="boogu",
        layers=(-1,),
        width=4096,
        min_pixels=NATIVE_LEAST,
        max_pixels=NATIVE_MOST,
        resize=TO_SMALL,
        most_pictures=16,
        mask=ALWAYS,
        writes=(POOLED,),
        norms_tokens=True,
        source="ComfyUI comfy/text_encoders/boogu.py and its TextEncodeBooguEdit",
    ),
    Target(
        name="joyimage",
        title="JoyImage",
        encoder="Qwen3-VL-8B",
        template="joyimage",
        layers=(-1,),
        final_norm=False,
        width=4096,
        drop_first=34,
        min_pixels=65536,
        max_pixels=16777216,
        resize=NativeResize(joyimage_bucket, BILINEAR, crop=True, encoder_way=BICUBIC),
        most_pictures=6,
        mask=ALWAYS,
        writes=(POOLED,),
        source="ComfyUI comfy/text_encoders/joyimage.py and its TextEncodeJoyImageEdit",
    ),
    Target(
        name="ideogram4",
        title="Ideogram 4",
        encoder="Qwen3-VL-8B",
        template="z-image",
        layers=(*range(1, 35, 3), 36),
        combine="concat",
        dimension_major=True,
        final_norm=False,
        width=53248,
        max_pixels=MEGAPIXEL,
        mask=ALWAYS,
        writes=(POOLED,),
        norms_tokens=True,
        about_pictures="Ideogram 4 was trained on words: pictures in its prompt are an experiment.",
        source="ComfyUI comfy/text_encoders/ideogram4.py; of a whole Qwen3-VL file ComfyUI norms "
        "the last layer, of a text-only file and in diffusers it comes raw, as here",
    ),
)
