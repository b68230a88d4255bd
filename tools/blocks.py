"""Writes the blocks of `subgraphs/` that hold Picture Reference and Image Prompt, one a target.

python -m tools.blocks
"""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
from vlm.version import NAME, find_version  # noqa: E402

FOLDER = ROOT / "subgraphs"
CLIP, VLM, BOTH = ("clip",), ("vlm",), ("clip", "vlm")
TYPES = {"clip": "CLIP", "vlm": "VLMC_MODEL"}
OFF = "strength 0 = the words alone. mask is what the mask editor paints."
SEES = "whose own CLIP sees"
EXPERIMENT = "an experiment: it was trained on words"


@dataclass(frozen=True)
class Block:
    """What a block is for.

    Attributes:
        target: The target of its Image Prompt.
        about: What it says of itself, before what all of them say.
        models: What reads words and picture.
    """

    target: str
    about: str
    models: tuple[str, ...] = CLIP


BLOCKS = {
    "Z-Image": Block(
        "z-image",
        "Words and a picture to CONDITIONING for Z-Image: its CLIP for the words, a VLM "
        "(Qwen3-VL-4B) for the picture. strength 1 = the usual amount.",
        BOTH,
    ),
    "FLUX.2 klein 4B": Block(
        "flux2-klein-4b",
        "Words and a picture to CONDITIONING for FLUX.2 klein 4B: its CLIP for the words, a VLM "
        f"(Qwen3-VL-4B) for the picture, {EXPERIMENT}.",
        BOTH,
    ),
    "FLUX.2 klein 9B": Block(
        "flux2-klein-9b",
        "Words and a picture to CONDITIONING for FLUX.2 klein 9B: its CLIP for the words, a VLM "
        f"(Qwen3-VL-8B) for the picture, {EXPERIMENT}, and people report worse pictures.",
        BOTH,
    ),
    "FLUX 3 klein": Block(
        "flux3-klein",
        "Words and a picture to CONDITIONING for FLUX 3 klein, both read by Qwen3-VL-4B (VLM "
        f"Loader, or VLM From CLIP). A picture in its prompt is {EXPERIMENT}.",
        VLM,
    ),
    "Krea 2": Block(
        "krea2",
        f"Words and a picture to CONDITIONING for Krea 2, {SEES}. strength 1 = the picture in the "
        "prompt; below it a step takes twice the time.",
    ),
    "Krea 2 Edit": Block(
        "krea2-edit",
        f"Words and a picture to CONDITIONING for Krea 2, {SEES}, laid out as for reference "
        "latents: put ReferenceLatent behind it.",
    ),
    "Qwen-Image": Block(
        "qwen-image",
        f"Words and a picture to CONDITIONING for Qwen-Image-Edit, {SEES}. Put ReferenceLatent "
        "behind it to keep the picture's pixels.",
    ),
    "Qwen-Image Edit Plus": Block(
        "qwen-image-edit-plus",
        f"Words and a picture to CONDITIONING for Qwen-Image-Edit 2509 and 2511, {SEES}. Put "
        "ReferenceLatent behind it to keep the picture's pixels.",
    ),
    "Qwen-Image 2.1": Block(
        "qwen-image-2.1",
        f"Words and a picture to CONDITIONING for Qwen-Image 2.1, {SEES}. <image1> in the words is "
        "the picture.",
    ),
    "Qwen-Image 2.1 Edit": Block(
        "qwen-image-2.1-edit",
        f"Words and a picture to CONDITIONING for Qwen-Image 2.1, {SEES}, with a place for its "
        "reference latent: it needs ReferenceLatent behind it. keep is all here.",
    ),
    "HunyuanImage 2.1": Block(
        "hunyuan-image",
        f"Words and a picture to CONDITIONING for HunyuanImage 2.1, {SEES}: {EXPERIMENT}.",
    ),
    "MiniMax H3": Block(
        "minimax-h3",
        f"Words and a picture to CONDITIONING for MiniMax H3, {SEES}. <Picture 1> in the words is "
        "the picture.",
    ),
    "Mage-Flow": Block(
        "mage-flow", f"Words and a picture to CONDITIONING for Mage-Flow, {SEES}."
    ),
    "Boogu": Block("boogu", f"Words and a picture to CONDITIONING for Boogu, {SEES}."),
    "JoyImage": Block("joyimage", f"Words and a picture to CONDITIONING for JoyImage, {SEES}."),
    "Ideogram 4": Block(
        "ideogram4",
        f"Words and a picture to CONDITIONING for Ideogram 4, {SEES}: {EXPERIMENT}.",
    ),
}  # fmt: skip

# Nodes inside, by their numbers: the widgets with their values, which of them the block shows, and
# their sockets. A socket is [name, type, whether it may stay empty].
PICTURE, PROMPT, INPUTS, OUTPUT = 1, 2, -10, -20
WIDGETS: dict[int, dict[str, Any]] = {
    PICTURE: {
        "strength": 1, "keep": "all", "mask_use": "crop", "start_percent": 0, "end_percent": 1,
        "pool_size": 64, "max_pixels": 0, "tiles": False,
    },
    PROMPT: {"prompt": "", "target": "", "image_placement": "target's"},
}  # fmt: skip
SHOWN = {"prompt": (PROMPT, "STRING"), "strength": (PICTURE, "FLOAT"), "keep": (PICTURE, "COMBO")}
SOCKETS = {
    PICTURE: [
        ("image", "IMAGE", False), ("pictures", "VLMC_PICTURES", True), ("mask", "MASK", True),
    ],
    PROMPT: [
        ("clip", "CLIP", True), ("model", "VLMC_MODEL", True), ("pictures", "VLMC_PICTURES", True),
        ("diffusion_model", "MODEL", True),
    ],
}  # fmt: skip
GIVES = {PICTURE: ("pictures", "VLMC_PICTURES"), PROMPT: ("conditioning", "CONDITIONING")}
KINDS = {PICTURE: "VLMCPicture", PROMPT: "VLMCImagePrompt"}
PLACES = {PICTURE: [390, 30, 320, 266], PROMPT: [800, 30, 340, 220]}


def build(title: str) -> dict[str, Any]:
    """A block as the page saves it.

    Args:
        title: One of BLOCKS.
    """
    block, name = BLOCKS[title], f"{title} Image Prompt"

    def own_id(of: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{NAME}/{name}/{of}"))

    ends = {each: (PROMPT, "model" if each == "vlm" else each, TYPES[each], True)
            for each in block.models}  # fmt: skip
    ends |= {"picture": (PICTURE, "image", "IMAGE", False), "mask": (PICTURE, "mask", "MASK", True)}
    ends |= {each: (node, each, kind, False) for each, (node, kind) in SHOWN.items()}
    numbers = count(1)
    arriving: dict[tuple[int, str], int] = {}
    links = []
    for slot, (node, socket, kind, _) in enumerate(ends.values()):
        arriving[node, socket] = next(numbers)
        links.append(_link(arriving[node, socket], INPUTS, slot, node, _slot(node, socket), kind))
    chain, out = next(numbers), next(numbers)
    arriving[PROMPT, "pictures"] = chain
    links.append(_link(chain, PICTURE, 0, PROMPT, _slot(PROMPT, "pictures"), "VLMC_PICTURES"))
    links.append(_link(out, PROMPT, 0, OUTPUT, 0, "CONDITIONING"))
    inputs = [
        {"id": own_id(each), "name": each, "type": kind, "linkIds": [arriving[node, socket]]}
        for each, (node, socket, kind, _) in ends.items()
    ]
    values = {each: WIDGETS[node][each] for each, (node, _) in SHOWN.items()}
    return {
        "id": own_id("workflow"),
        "revision": 0,
        "last_node_id": 3,
        "last_link_id": out,
        "nodes": [{
            "id": 3, "type": own_id("definition"), "pos": [0, 0], "size": [340, 260], "flags": {},
            "order": 0, "mode": 0,
            "inputs": [
                {"name": each, "type": kind, "link": None} | ({"shape": 7} if empty else {})
                for each, (_, _, kind, empty) in ends.items() if each not in SHOWN
            ],
            "outputs": [{"name": "conditioning", "type": "CONDITIONING", "links": None}],
            "properties": {"previewExposures": []},
            "widgets_values": list(values.values()),
            "widgets_values_named": values,
        }],
        "links": [],
        "definitions": {"subgraphs": [{
            "id": own_id("definition"),
            "version": 1,
            "state": {"lastGroupId": 0, "lastNodeId": 3, "lastLinkId": out, "lastRerouteId": 0},
            "revision": 0,
            "config": {},
            "name": name,
            "category": "VLM Conditioning",
            "description": f"{block.about} {OFF}",
            "inputNode": {"id": INPUTS, "bounding": [150, 80, 128, 48 + 20 * len(ends)]},
            "outputNode": {"id": OUTPUT, "bounding": [1230, 80, 128, 68]},
            "inputs": inputs,
            "outputs": [{
                "id": own_id("conditioning"), "name": "conditioning", "type": "CONDITIONING",
                "linkIds": [out],
            }],
            "widgets": [],
            "nodes": [_node(node, block.target, arriving, {PICTURE: chain, PROMPT: out}[node])
                      for node in KINDS],
            "groups": [],
            "links": links,
            "extra": {},
        }]},
        "config": {},
        "extra": {},
        "version": 0.4,
    }  # fmt: skip


def _sockets(node: int) -> list[tuple[str, str, bool]]:
    """All inputs of a node: its sockets, and its widgets that the block shows."""
    shown = [(name, kind, False) for name, (at, kind) in SHOWN.items() if at == node]
    return [*SOCKETS[node], *shown]


def _slot(node: int, name: str) -> int:
    return [each for each, _, _ in _sockets(node)].index(name)


def _link(number: int, origin: int, out: int, target: int, slot: int, kind: str) -> dict[str, Any]:
    return {"id": number, "origin_id": origin, "origin_slot": out, "target_id": target,
            "target_slot": slot, "type": kind}  # fmt: skip


def _node(
    node: int, target: str, links: dict[tuple[int, str], int], leaving: int
) -> dict[str, Any]:
    """A node inside a block."""
    values = WIDGETS[node] | ({"target": target} if node == PROMPT else {})
    x, y, width, height = PLACES[node]
    name, kind = GIVES[node]
    return {
        "id": node, "type": KINDS[node], "pos": [x, y], "size": [width, height], "flags": {},
        "order": node - 1, "mode": 0,
        "inputs": [
            {"localized_name": each, "name": each, "type": kind_, "link": links.get((node, each))}
            | ({"shape": 7} if empty else {})
            | ({"widget": {"name": each}} if each in SHOWN else {})
            for each, kind_, empty in _sockets(node)
        ],
        "outputs": [{"localized_name": name, "name": name, "type": kind, "links": [leaving]}],
        "properties": {"Node name for S&R": KINDS[node], "cnr_id": NAME, "ver": find_version()},
        "widgets_values": list(values.values()),
        "widgets_values_named": values,
    }  # fmt: skip


def main() -> None:
    """Writes all of them."""
    for title in BLOCKS:
        text = json.dumps(build(title), indent=2, ensure_ascii=False)
        (FOLDER / f"{title} Image Prompt.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
