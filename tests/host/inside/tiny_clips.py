"""Tiny random CLIPs of the text encoders that VLM From CLIP runs, vision towers included."""

from __future__ import annotations

import types
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import comfy.sd
import comfy.text_encoders.boogu
import comfy.text_encoders.flux
import comfy.text_encoders.hunyuan_image
import comfy.text_encoders.ideogram4
import comfy.text_encoders.joyimage
import comfy.text_encoders.krea2
import comfy.text_encoders.mage_flow
import comfy.text_encoders.qwen3vl
import comfy.text_encoders.qwen35
import comfy.text_encoders.qwen_image
import comfy.text_encoders.qwen_vl
import comfy.text_encoders.z_image
import torch
from tiny_native.weights import fill, seeded

QWEN3_VISION = {"hidden_size": 64, "intermediate_size": 96, "depth": 4}
DEEPSTACK = [0, 1, 2]
POSITIONS = 256
QWEN2_VISION = {"hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "num_layers": 2}


@dataclass(frozen=True)
class Kind:
    """A native text encoder.

    Attributes:
        wrapper: Module of ComfyUI that wraps it for a diffusion model.
        make: Name of the function there that gives its class.
        tokenizer: Name of its tokenizer class there.
        key: What ComfyUI calls the model inside.
        layers: Decoder layers, at least as many as its wrapper takes states from.
        target: Our name of the diffusion model.
        width: Of the language model; heads of 128 fill that of Qwen2.5-VL, as transformers has it.
        options: What `make` is called with.
    """

    wrapper: Any
    make: str
    tokenizer: str
    key: str
    layers: int
    target: str
    width: int = 64
    options: dict[str, str] = field(default_factory=dict)


KINDS = {
    "z-image": Kind(comfy.text_encoders.z_image, "te", "ZImageTokenizer", "qwen3_4b", 6, "z-image"),
    "klein": Kind(
        comfy.text_encoders.flux, "klein_te", "KleinTokenizer", "qwen3_4b", 28, "flux2-klein-4b"
    ),
    "klein-9b": Kind(
        comfy.text_encoders.flux,
        "klein_te",
        "KleinTokenizer8B",
        "qwen3_8b",
        28,
        "flux2-klein-9b",
        options={"model_type": "qwen3_8b"},
    ),
    "krea2": Kind(comfy.text_encoders.krea2, "te", "Krea2Tokenizer", "qwen3vl_4b", 36, "krea2"),
    "qwen-image": Kind(
        comfy.text_encoders.qwen_image,
        "te",
        "QwenImageTokenizer",
        "qwen25_7b",
        6,
        "qwen-image",
        width=128,
    ),
}


def _qwen3_vl(module: str, tokenizer: str, size: str, layers: int, target: str) -> Kind:
    wrapper = getattr(comfy.text_encoders, module)
    return Kind(wrapper, "te", tokenizer, f"qwen3vl_{size}", layers, target)


# Those that read a text encoder of the same kinds for other diffusion models.
MORE = {
    "hunyuan-image": replace(
        KINDS["qwen-image"],
        wrapper=comfy.text_encoders.hunyuan_image,
        tokenizer="HunyuanImageTokenizer",
        target="hunyuan-image",
        options={"byt5": False},
    ),
    "mage-flow": _qwen3_vl("mage_flow", "MageFlowTokenizer", "4b", 6, "mage-flow"),
    "boogu": _qwen3_vl("boogu", "BooguTokenizer", "8b", 6, "boogu"),
    "joyimage": _qwen3_vl("joyimage", "JoyImageTokenizer", "8b", 6, "joyimage"),
    "ideogram4": _qwen3_vl("ideogram4", "Ideogram4Tokenizer", "8b", 36, "ideogram4"),
    "ideogram4-vl": Kind(
        comfy.text_encoders.ideogram4,
        "te_qwen3vl",
        "Ideogram4Qwen3VLTokenizer",
        "qwen3vl_8b",
        36,
        "ideogram4",
    ),
}
if find_spec("comfy.text_encoders.minimax") is not None:  # not in ComfyUI 0.29
    import_module("comfy.text_encoders.minimax")
    MORE["minimax-h3"] = _qwen3_vl("minimax", "MiniMaxH3Tokenizer", "32b", 50, "minimax-h3")
if find_spec("comfy.text_encoders.qwen_image21") is not None:  # newer than ComfyUI 0.33
    MORE["qwen-image-2.1"] = Kind(
        import_module("comfy.text_encoders.qwen_image21"),
        "te",
        "QwenImage21Tokenizer",
        "qwen3vl_8b",
        6,
        "qwen-image-2.1",
    )
EVERY = KINDS | MORE


def shrink_vision_towers() -> None:
    """Makes ComfyUI build tiny vision towers; their sizes are no part of a model's options."""
    vision = comfy.text_encoders.qwen3vl
    for size in vision.QWEN3VL_VISION:
        vision.QWEN3VL_VISION[size] = QWEN3_VISION | {"deepstack_visual_indexes": DEEPSTACK}
    comfy.text_encoders.qwen35.QWEN35_VISION_DEFAULTS.update(
        QWEN3_VISION, num_heads=2, num_position_embeddings=POSITIONS
    )
    vision.QWEN3VL_VISION_COMMON.update(num_heads=2, num_position_embeddings=POSITIONS)
    full = comfy.text_encoders.qwen_vl.Qwen2VLVisionTransformer

    def small(**sizes: Any) -> torch.nn.Module:
        tower = full(**sizes | QWEN2_VISION)
        tower.fullatt_block_indexes = [1]
        return tower

    comfy.text_encoders.qwen_vl.Qwen2VLVisionTransformer = small


def text_config(layers: int, width: int = 64) -> dict[str, Any]:
    """Config of a tiny language model by its native names; head_dim stays 128, fixed there."""
    return {
        "hidden_size": width,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 128 // width,
        "num_key_value_heads": 1,
    }


def tiny_clip(kind: str, **config: Any) -> comfy.sd.CLIP:
    """A tiny CLIP in float32: ComfyUI's wrapper, tokenizer and classes, random weights."""
    one = EVERY[kind]
    clip_class = getattr(one.wrapper, one.make)(**one.options)
    tokenizer = getattr(one.wrapper, one.tokenizer)
    sizes = text_config(one.layers, one.width) | config
    clip = make_clip(clip_class, tokenizer, {one.key: sizes})
    fill(transformer_of(clip))
    return clip


def make_clip(clip_class: Any, tokenizer: Any, configs: dict[str, dict]) -> comfy.sd.CLIP:
    """A CLIP without weights.

    Args:
        clip_class: ComfyUI's wrapper.
        tokenizer: Its tokenizer class.
        configs: Sizes of each model inside, by what ComfyUI calls it.
    """
    pick = types.SimpleNamespace(clip=clip_class, tokenizer=tokenizer, params={})
    sizes = {f"{key}_model_config": config for key, config in configs.items()}
    return comfy.sd.CLIP(pick, model_options={"dtype": torch.float32} | sizes)


def transformer_of(clip: comfy.sd.CLIP) -> torch.nn.Module:
    """The model inside a CLIP's wrappers."""
    stage = clip.cond_stage_model
    return getattr(stage, stage.clip).transformer


@lru_cache
def weights_of(kind: str, layers: int) -> dict[str, torch.Tensor]:
    """The state dict that `tiny_clip(kind)` has, cut to its first layers; contiguous."""
    model = transformer_of(tiny_clip(kind, num_hidden_layers=layers))
    return {
        name: seeded(name, tuple(tensor.shape)).contiguous()
        for name, tensor in model.state_dict().items()
    }


def native_encode(clip: comfy.sd.CLIP, text: str, **tokenize: Any) -> torch.Tensor:
    """What ComfyUI's own text encode nodes make of a prompt, [1, N, D]."""
    return clip.encode_from_tokens(clip.tokenize(text, **tokenize))


def handed_on(kind: str, images: list[torch.Tensor]) -> list[torch.Tensor]:
    """Pictures as the encode node of a kind's diffusion model hands them to the CLIP.

    test_native_rows.py compares with the nodes themselves.
    """
    from pack.vlm.targets import find_target

    resize = find_target(EVERY[kind].target).resize
    return images if resize is None else [resize.apply(image) for image in images]


def ours(model: Any, text: str, kind: str, **encode: Any) -> torch.Tensor:
    """What VLM Encode and Hidden Layer Select make of it with `auto`, [1, N, D]."""
    from pack.vlm.tokens.select import select_layers

    return select_layers(model.encode(text, target=KINDS[kind].target, **encode)).states
