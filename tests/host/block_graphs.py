"""What each block of `subgraphs/` is wired from, and the nodes that do the same.

A source is [name, type, widgets, what it is wired from]. Oracles are API prompts whose links may
name sources; `out` is the node that gives what the block gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graphs import Prompt, node
from pack_graphs import LIKE_NATIVE
from tiny_connectors import CONNECTOR

from tools.blocks import BOTH, CLIP, VLM

PICTURE, TEXT = "blocks.png", "a red house by the river"
PROMPT = {"prompt": TEXT}
MOST = 64 * 64  # pixels of a picture that Image Prompt looks at


@dataclass(frozen=True)
class Trial:
    """Values of the block.

    Attributes:
        oracle: What gives the same.
        widgets: Values of the block's widgets, by name.
        wires: What else it is wired from then, by its input.
    """

    oracle: Prompt
    widgets: dict[str, Any]
    wires: dict[str, list] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """A block.

    Attributes:
        inputs: Names of its sockets, in order; those of `wires` are wired.
        shows: Its widgets with their defaults, in order.
        inner: Types of its nodes, sorted.
        sources: What feeds it.
        wires: Its inputs, by name, with the source of each.
        trials: By name; none gives what another gives.
    """

    inputs: list[str]
    shows: dict[str, Any]
    inner: list[str]
    sources: list[list]
    wires: dict[str, list]
    trials: dict[str, Trial]


def _clip(native: str, layers: int) -> list:
    return ["clip", "TestTinyClip", {"target": native, "width": 64, "layers": layers}, {}]


def _vlm(model: str = LIKE_NATIVE) -> list:
    # Beginnings that are reused would differ in the last bit.
    return ["vlm", "VLMCLoader", {"model": model, "dtype": "float32", "prefix_cache_mb": 0}, {}]


LOAD = ["load", "LoadImage", {"image": PICTURE}, {}]


def words(out: str = "out") -> Prompt:
    """CLIP Text Encode of the block's words."""
    return {out: node("CLIPTextEncode", clip=["clip", 0], text=TEXT)}


def from_clip() -> Prompt:
    """VLM From CLIP."""
    cache = {"prefix_cache_mb": 0}
    return {"vlm": node("VLMCFromCLIP", clip=["clip", 0], preprocessing="huggingface", **cache)}


def encoded(target: str, picture: bool = True, **encode: Any) -> Prompt:
    """Words, and a picture in the prompt, encoded by the VLM."""
    shown = {"images__image0": ["load", 0]} if picture else {}
    return {
        "encode": node("VLMCEncode", model=["vlm", 0], prompt=TEXT, target=target, **shown,
                       **encode),
        "out": node("VLMCHiddenLayerSelect", hidden_states=["encode", 0], layers="auto",
                    combine="auto"),
    }  # fmt: skip


def in_prompt(target: str, **encode: Any) -> Prompt:
    """A picture in the prompt, seen by the CLIP itself."""
    return from_clip() | encoded(target, **encode)


def blended(
    target: str, keep: str, alpha: float, method: str, layers: str = "auto", **encode: Any
) -> Prompt:
    """A picture's tokens blended into the words."""
    return words("words") | {
        "encode": node("VLMCEncode", model=["vlm", 0], prompt=TEXT, target=target,
                       images__image0=["load", 0], **encode),
        "layer": node("VLMCHiddenLayerSelect", hidden_states=["encode", 0], layers=layers,
                      combine="auto"),
        "filter": node("VLMCTokenFilter", tokens=["layer", 0], keep=keep),
        "normal": node("VLMCPerDimNormalize", conditioning=["filter", 0], mode="auto", strength=1.0,
                       reference=["words", 0]),
        "out": node("VLMCAlphaBlend", text=["words", 0], picture=["normal", 0], alpha=alpha,
                    method=method),
    }  # fmt: skip


def image_prompt(target: str, wires: dict[str, list], **reference: Any) -> Prompt:
    """Picture Reference and Image Prompt."""
    return {
        "picture": node("VLMCPicture", image=["load", 0], **reference),
        "out": node("VLMCImagePrompt", prompt=TEXT, target=target, pictures=["picture", 0],
                    **wires),
    }  # fmt: skip


def _image_prompt_block(
    target: str, native: str, layers: int, models: tuple[str, ...] = CLIP, keep: str = "pooled"
) -> Block:
    """A block of Picture Reference and Image Prompt.

    Args:
        target: Its target.
        native: Of TestTinyClip.
        layers: Decoder layers of the tiny text encoder.
        models: What reads words and picture.
        keep: What is kept of a picture of half its strength.
    """
    wires = {each: [each, 0] for each in models}
    given = {"model" if each == "vlm" else each: wire for each, wire in wires.items()}
    half, seen = {"strength": 0.5, "keep": keep}, {"max_pixels": MOST}
    usual, alone = {
        CLIP: (in_prompt(target, **seen), words()),
        VLM: (encoded(target, **seen), encoded(target, picture=False)),
        BOTH: (blended(target, "all", 0.3, "auto", **seen), words()),
    }[models]
    sources = {"clip": _clip(native, layers), "vlm": _vlm()}
    return Block(
        inputs=[*models, "picture", "mask"],
        shows={"prompt": "", "strength": 1, "keep": "all"},
        inner=["VLMCImagePrompt", "VLMCPicture"],
        sources=[*(sources[each] for each in models), LOAD],
        wires=wires | {"picture": ["load", 0]},
        trials={
            "block": Trial(usual, PROMPT),
            "off": Trial(alone, PROMPT | {"strength": 0}),
            "half": Trial(
                image_prompt(target, given, mask=["load", 1], **half, **seen),
                PROMPT | half,
                {"mask": ["load", 1]},
            ),
        },
    )


def _style() -> Block:
    changed = {"alpha": 0.5, "layers": "-2", "keep": "all"}
    return Block(
        inputs=["clip", "vlm", "picture"],
        shows={"prompt": "", "alpha": 0.3, "layers": "auto", "keep": "text"},
        inner=["CLIPTextEncode", "VLMCAlphaBlend", "VLMCEncode", "VLMCHiddenLayerSelect",
               "VLMCPerDimNormalize", "VLMCTokenFilter"],
        sources=[_clip("z-image", 36), _vlm(), LOAD],
        wires={"clip": ["clip", 0], "vlm": ["vlm", 0], "picture": ["load", 0]},
        trials={
            "block": Trial(blended("z-image", "text", 0.3, "interpolate"), PROMPT),
            "off": Trial(words(), PROMPT | {"alpha": 0}),
            "changed": Trial(
                blended("z-image", "all", 0.5, "interpolate", "-2"), PROMPT | changed
            ),
        },
    )  # fmt: skip


def _krea2_picture() -> Block:
    small = {"max_pixels": 64 * 64}
    return Block(
        inputs=["clip", "picture"],
        shows={"prompt": "", "max_pixels": 0},
        inner=["VLMCEncode", "VLMCFromCLIP", "VLMCHiddenLayerSelect"],
        sources=[_clip("krea2", 36), LOAD],
        wires={"clip": ["clip", 0], "picture": ["load", 0]},
        trials={
            "block": Trial(in_prompt("krea2"), PROMPT),
            "small": Trial(in_prompt("krea2", **small), PROMPT | small),
        },
    )


def _variation(guidance: float) -> Prompt:
    return {
        "encode": node("VLMCEncode", model=["vlm", 0], prompt="", target="qwen2vl-flux",
                       images__image0=["load", 0]),
        "empty": node("CLIPTextEncode", clip=["clip", 0], text=""),
        "loader": node("VLMCConnectorLoader", connector=CONNECTOR),
        "apply": node("VLMCConnectorApply", tokens=["encode", 0], connector=["loader", 0],
                      pooled_from=["empty", 0]),
        "out": node("FluxGuidance", conditioning=["apply", 0], guidance=guidance),
    }  # fmt: skip


def _flux1() -> Block:
    clip = {"clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl_fp16.safetensors"}
    return Block(
        inputs=["clip", "vlm", "picture"],
        shows={"connector": CONNECTOR, "guidance": 3.5},
        inner=["CLIPTextEncode", "FluxGuidance", "VLMCConnectorApply", "VLMCConnectorLoader",
               "VLMCEncode"],
        sources=[
            ["clip", "DualCLIPLoader", clip | {"type": "flux"}, {}], _vlm("VLM/Qwen2VL-Flux"), LOAD,
        ],
        wires={"clip": ["clip", 0], "vlm": ["vlm", 0], "picture": ["load", 0]},
        trials={
            "block": Trial(_variation(3.5), {}),
            "guided": Trial(_variation(2.0), {"guidance": 2.0}),
        },
    )  # fmt: skip


# Whose text encoder this ComfyUI need not have: a Qwen3-VL of no diffusion model.
OTHER = "qwen3-vl-8b"
BLOCKS = {
    "FLUX Image Variation": _flux1(),
    "Krea 2 Picture Prompt": _krea2_picture(),
    "Z-Image Picture Style": _style(),
} | {
    f"{name} Image Prompt": _image_prompt_block(*given)
    for name, *given in (
        ("Z-Image", "z-image", "z-image", 36, BOTH),
        ("FLUX.2 klein 4B", "flux2-klein-4b", "flux2-klein", 30, BOTH),
        ("FLUX.2 klein 9B", "flux2-klein-9b", "flux2-klein-9b", 30, BOTH),
        ("FLUX 3 klein", "flux3-klein", "", 0, VLM),
        ("Krea 2", "krea2", "krea2", 36),
        ("Krea 2 Edit", "krea2-edit", "krea2", 36),
        ("Qwen-Image", "qwen-image", "qwen-image", 4),
        ("Qwen-Image Edit Plus", "qwen-image-edit-plus", "qwen-image", 4),
        ("Qwen-Image 2.1", "qwen-image-2.1", OTHER, 4),
        ("Qwen-Image 2.1 Edit", "qwen-image-2.1-edit", OTHER, 4, CLIP, "all"),
        ("HunyuanImage 2.1", "hunyuan-image", "hunyuan-image", 4),
        ("MiniMax H3", "minimax-h3", "minimax-h3", 50),
        ("Mage-Flow", "mage-flow", "mage-flow", 4),
        ("Boogu", "boogu", "boogu", 4),
        ("JoyImage", "joyimage", "joyimage", 4),
        ("Ideogram 4", "ideogram4", "ideogram4", 36),
    )
}
