"""Lets native loaders take stub files under the names of the real weights.

A stub is a safetensors file with metadata {"tiny_native": "<kind>"}. Workflows that name
z_image_turbo_bf16.safetensors then run unchanged. Files without that metadata go to the
native loader untouched.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import comfy.sd

from .models import (
    CLIP_TARGETS,
    tiny_clip,
    tiny_depth,
    tiny_flux_clip,
    tiny_minimax_h3,
    tiny_qwen_image,
    tiny_z_image,
)

KEY = "tiny_native"
CLIP_TYPES = {
    comfy.sd.CLIPType.FLUX: "flux2-klein",
    comfy.sd.CLIPType.FLUX2: "flux2-klein",
    comfy.sd.CLIPType.LUMINA2: "z-image",
    comfy.sd.CLIPType.KREA2: "krea2",
    comfy.sd.CLIPType.QWEN_IMAGE: "qwen-image",
}
if "minimax-h3" in CLIP_TARGETS:
    CLIP_TYPES[comfy.sd.CLIPType.MINIMAX] = "minimax-h3"
MODELS = {
    "z-image": tiny_z_image,
    "qwen-image": tiny_qwen_image,
    "minimax-h3": tiny_minimax_h3,
    "depth": tiny_depth,
}


def stub_kind(path: str) -> dict[str, str] | None:
    """The metadata of a stub file, or None for any other file."""
    file = Path(path)
    if file.suffix != ".safetensors":
        return None
    with file.open("rb") as stream:
        size = struct.unpack("<Q", stream.read(8))[0]
        metadata = json.loads(stream.read(size)).get("__metadata__", {})
    return metadata if KEY in metadata else None


def install() -> None:
    """Wraps the two loader functions that recognise models by their real sizes."""
    load_clip, load_model = comfy.sd.load_clip, comfy.sd.load_diffusion_model

    def clip(ckpt_paths, embedding_directory=None, clip_type=None, **kwargs):
        stub = stub_kind(ckpt_paths[0])
        if stub is None:
            return load_clip(ckpt_paths, embedding_directory, clip_type, **kwargs)
        if len(ckpt_paths) == 2:
            return tiny_flux_clip()
        return tiny_clip(CLIP_TYPES[clip_type], int(stub["width"]), int(stub["layers"]))

    def model(unet_path, model_options=None, **kwargs):
        stub = stub_kind(unet_path)
        if stub is None:
            return load_model(unet_path, model_options or {}, **kwargs)
        return MODELS[stub[KEY]](int(stub["width"]))

    comfy.sd.load_clip = clip
    comfy.sd.load_diffusion_model = model
