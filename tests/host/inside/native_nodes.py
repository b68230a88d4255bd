"""What ComfyUI's own encode nodes make of words and pictures at default settings."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from comfy_extras.nodes_boogu import TextEncodeBooguEdit
from comfy_extras.nodes_joyimage import TextEncodeJoyImageEdit
from comfy_extras.nodes_mage import TextEncodeMageFlowEdit
from comfy_extras.nodes_qwen import TextEncodeQwenImageEdit, TextEncodeQwenImageEditPlus

from nodes import CLIPTextEncode

# Schema defaults of MiniMaxH3ReferenceToVideo that have no default in Python.
H3_SIZE = {"width": 1344, "height": 768, "length": 124}
FOR_REFERENCES = ("reference_latents", "minimax_refs")


class NoLatents:
    """A VAE in place of one that a node cannot do without; what it makes is not compared."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 1, 1, 1)


def numbered(pictures: list[torch.Tensor], name: str = "image_{}") -> dict[str, torch.Tensor]:
    """Pictures by the names that a node counts them with, from 1."""
    return {name.format(number): picture for number, picture in enumerate(pictures, start=1)}


def _edit(clip: Any, text: str, pictures: list[torch.Tensor]) -> Any:
    return TextEncodeQwenImageEdit.execute(clip, text, image=pictures[0])


def _edit_plus(clip: Any, text: str, pictures: list[torch.Tensor]) -> Any:
    return TextEncodeQwenImageEditPlus.execute(clip, text, **numbered(pictures, "image{}"))


def _h3(clip: Any, text: str, pictures: list[torch.Tensor]) -> Any:
    # Not in ComfyUI 0.29.
    node = import_module("comfy_extras.nodes_minimax_h3").MiniMaxH3ReferenceToVideo
    vae = NoLatents()
    references = numbered(pictures, "ref_image_{}")
    return node.execute(clip, vae, vae, text, **H3_SIZE, ref_images=references)


def _mage(clip: Any, text: str, pictures: list[torch.Tensor]) -> Any:
    done = TextEncodeMageFlowEdit.execute(clip, "unused", text, images=numbered(pictures))
    if text:
        done = TextEncodeMageFlowEdit.execute(clip, text, images=numbered(pictures))
        return done.result[0]
    return done.result[1]  # no words: what it makes of an empty negative prompt


def _boogu(clip: Any, text: str, pictures: list[torch.Tensor]) -> Any:
    return TextEncodeBooguEdit.execute(clip, text, "", images=numbered(pictures))


def _joyimage(clip: Any, text: str, pictures: list[torch.Tensor]) -> Any:
    return TextEncodeJoyImageEdit.execute(clip, text, images=numbered(pictures))


def _second(clip: Any, text: str, pictures: list[torch.Tensor], vae: Any = None) -> Any:
    # In ComfyUI after 0.33 alone.
    node = import_module("comfy_extras.nodes_qwen").TextEncodeQwenImage21
    return node.execute(clip, text, "", vae=vae, images=numbered(pictures))


def _second_edit(clip: Any, text: str, pictures: list[torch.Tensor]) -> Any:
    return _second(clip, text, pictures, NoLatents())


WITH_PICTURES = {
    "qwen-image": _edit,
    "qwen-image-edit-plus": _edit_plus,
    "krea2-edit": _edit_plus,
    "qwen-image-2.1": _second,
    "qwen-image-2.1-edit": _second_edit,
    "minimax-h3": _h3,
    "mage-flow": _mage,
    "boogu": _boogu,
    "joyimage": _joyimage,
}
WORDS_NODE = "CLIPTextEncode"
NODES = {
    "qwen-image": "TextEncodeQwenImageEdit",
    "qwen-image-edit-plus": "TextEncodeQwenImageEditPlus",
    "krea2-edit": "TextEncodeQwenImageEditPlus",
    "qwen-image-2.1": "TextEncodeQwenImage21",
    "qwen-image-2.1-edit": "TextEncodeQwenImage21",
    "minimax-h3": "MiniMaxH3ReferenceToVideo",
    "mage-flow": "TextEncodeMageFlowEdit",
    "boogu": "TextEncodeBooguEdit",
    "joyimage": "TextEncodeJoyImageEdit",
}
# Their own node lays words out as it does with pictures, or is the only one there is.
ALSO_WORDS = (
    "qwen-image-edit-plus",
    "krea2-edit",
    "qwen-image-2.1",
    "qwen-image-2.1-edit",
    "minimax-h3",
)


def native(target: str, clip: Any, text: str, pictures: list[torch.Tensor]) -> list[Any]:
    """The CONDITIONING of the node that people wire for this target, without reference latents."""
    if pictures or target in ALSO_WORDS:
        done = WITH_PICTURES[target](clip, text, pictures)
        entries = done if isinstance(done, list) else done.result[0]
    else:
        (entries,) = CLIPTextEncode().encode(clip, text)
    return [
        [tensor, {key: value for key, value in options.items() if key not in FOR_REFERENCES}]
        for tensor, options in entries
    ]
