"""Sizes of pictures that several rows share."""

from __future__ import annotations

from ..pictures.native_resize import AREA, NativeResize, of_area

MEGAPIXEL = 1024 * 1024
SMALL = 384 * 384
# Bounds of ComfyUI's own text encoders (comfy/text_encoders/qwen_vl.py, process_qwen2vl_images).
NATIVE_LEAST, NATIVE_MOST = 3136, 12845056

# What TextEncodeQwenImageEditPlus and TextEncodeBooguEdit do to each picture.
TO_SMALL = NativeResize(of_area(SMALL), AREA)
