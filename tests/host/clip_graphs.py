"""API prompts that take their VLM from a native CLIP; see graphs.py and pack_graphs.py."""

from __future__ import annotations

from typing import Any

from graphs import Prompt, node
from pack_graphs import dump, seen

# Native target of TestTinyClip: the target on VLM Encode, decoder layers of the tiny encoder.
NATIVE = {
    "z-image": ("z-image", 36),
    "flux2-klein": ("flux2-klein-4b", 30),
    "flux2-klein-9b": ("flux2-klein-9b", 30),
    "krea2": ("krea2", 36),
    "qwen-image": ("qwen-image", 8),
    "qwen-image-2.1": ("qwen-image-2.1", 8),
}


def clip(native: str) -> dict[str, Any]:
    """The native text encoder of a target, tiny."""
    return node("TestTinyClip", target=native, width=64, layers=NATIVE[native][1])


def from_clip(
    native: str,
    text: str,
    *pictures: dict[str, Any] | None,
    preprocessing: str = "huggingface",
    **more: Any,
) -> Prompt:
    """TestTinyClip → VLM From CLIP → VLM Encode → Hidden Layer Select → dump.

    Ids: clip, vlm, picture0, ..., encode, layer, dump. As with `seen`, None stands for no picture.
    `more` goes to VLM Encode; its target is the CLIP's own where none is given.
    """
    prompt = seen(text, *pictures, **({"target": NATIVE[native][0]} | more))
    wrapped = node(
        "VLMCFromCLIP", clip=["clip", 0], preprocessing=preprocessing, prefix_cache_mb=1024
    )
    return prompt | {"clip": clip(native), "vlm": wrapped}


def native_encode(text: str, source: str = "clip", name: str = "native") -> Prompt:
    """CLIP Text Encode on the CLIP of node `source`; ids: `name` and `name`_dump."""
    return {
        name: node("CLIPTextEncode", clip=[source, 0], text=text),
        f"{name}_dump": dump(name),
    }
