"""Random parameters of the built-in tiny models: same bits for the same name, everywhere.

The shapes come from a table per family in the layout of the published checkpoints, not from a
model class, and the numbers from exact arithmetic (sums of 24-bit uniforms), so that neither the
version of transformers nor the processor's math library changes them.
"""

from __future__ import annotations

import hashlib
import math
import re

import torch

# Standard deviations. What each layer adds makes the stream grow about sevenfold over 36 layers.
# Attention averages, so its share stays below the MLP's: otherwise all tokens become alike, and
# a picture could not be told from another one in the deep layers.
EMBED = 0.5
ATTENTION = 0.4
MLP = 0.9
NORM = 0.05
BIAS = 0.05
IMAGE_OFFSET = 0.3  # what all image tokens share, so that their statistics differ from text's

_ATTENTION = re.compile(r"(o_proj|attn\.proj)\.weight$")
_MLP = re.compile(r"(down_proj|blocks\.\d+\.mlp\.(linear_)?fc2)\.weight$")
_NORM = re.compile(r"(norm\d?|layernorm|ln_q)\.weight$")
_OFFSET = re.compile(r"visual\.merger\.(mlp\.2|linear_fc2)\.bias$")

Shapes = dict[str, tuple[int, ...]]


def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """One parameter, from a generator seeded by its name.

    Args:
        name: the parameter's name in the published checkpoint layout.
        shape: its shape; the name's ending decides mean and scale.

    Returns:
        float32 tensor; the sum of four uniform numbers stands in for a normal one.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    generator = torch.Generator().manual_seed(seed)
    a, b, c, d = torch.rand((4, *shape), generator=generator)
    unit = (a + b + c + d - 2.0) * math.sqrt(3.0)
    mean, std = _scale(name, shape)
    return unit * std + mean


def _scale(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if _NORM.search(name):
        return 1.0, NORM
    if name.endswith(".bias"):
        return 0.0, IMAGE_OFFSET if _OFFSET.search(name) else BIAS
    if name.endswith("embed_tokens.weight") or name.endswith("pos_embed.weight"):
        return 0.0, EMBED
    share = ATTENTION if _ATTENTION.search(name) else MLP if _MLP.search(name) else 1.0
    return 0.0, share / math.sqrt(math.prod(shape[1:]))


def _linear(name: str, out: int, inner: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, inner)} | ({f"{name}.bias": (out,)} if bias else {})


def _norm(name: str, size: int, bias: bool) -> Shapes:
    return {f"{name}.weight": (size,)} | ({f"{name}.bias": (size,)} if bias else {})


def text_shapes(prefix: str, text: dict, head_dim: int, qwen3: bool) -> Shapes:
    """Shapes of the language model.

    Args:
        prefix: `model` (Qwen2-VL, Qwen2.5-VL) or `model.language_model` (Qwen3-VL).
        text: the text part of config.json.
        head_dim: width of one attention head.
        qwen3: norms on queries and keys instead of biases on their projections.
    """
    width, inner = text["hidden_size"], text["intermediate_size"]
    heads, kv_heads = text["num_attention_heads"], text["num_key_value_heads"]
    shapes: Shapes = {f"{prefix}.embed_tokens.weight": (text["vocab_size"], width)}
    for i in range(text["num_hidden_layers"]):
        layer = f"{prefix}.layers.{i}"
        shapes |= _norm(f"{layer}.input_layernorm", width, bias=False)
        for part, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            name = f"{layer}.self_attn.{part}_proj"
            shapes |= _linear(name, count * head_dim, width, bias=not qwen3)
        shapes |= _linear(f"{layer}.self_attn.o_proj", width, heads * head_dim, bias=False)
        if qwen3:
            shapes |= _norm(f"{layer}.self_attn.q_norm", head_dim, bias=False)
            shapes |= _norm(f"{layer}.self_attn.k_norm", head_dim, bias=False)
        shapes |= _norm(f"{layer}.post_attention_layernorm", width, bias=False)
        shapes |= _linear(f"{layer}.mlp.gate_proj", inner, width, bias=False)
        shapes |= _linear(f"{layer}.mlp.up_proj", inner, width, bias=False)
        shapes |= _linear(f"{layer}.mlp.down_proj", width, inner, bias=False)
    return shapes | _norm(f"{prefix}.norm", width, bias=False)


def vision_shapes(family: str, vision: dict, width: int) -> Shapes:
    """Shapes of the vision tower and of what merges its patches into tokens.

    Args:
        family: `qwen2_vl`, `qwen2_5_vl` or `qwen3_vl`.
        vision: `vision_config` of config.json.
        width: width of the language model.
    """
    prefix = "model.visual" if family == "qwen3_vl" else "visual"
    size = vision["embed_dim"] if family == "qwen2_vl" else vision["hidden_size"]
    patch = vision["patch_size"]
    shapes: Shapes = {f"{prefix}.patch_embed.proj.weight": (size, 3, 2, patch, patch)}
    if family == "qwen3_vl":
        shapes[f"{prefix}.patch_embed.proj.bias"] = (size,)
        shapes[f"{prefix}.pos_embed.weight"] = (vision["num_position_embeddings"], size)
    for i in range(vision["depth"]):
        block = f"{prefix}.blocks.{i}"
        for norm in ("norm1", "norm2"):
            shapes |= _norm(f"{block}.{norm}", size, bias=family != "qwen2_5_vl")
        shapes |= _linear(f"{block}.attn.qkv", 3 * size, size)
        shapes |= _linear(f"{block}.attn.proj", size, size)
        shapes |= _block_mlp(family, f"{block}.mlp", size, vision)
    return shapes | _mergers(family, prefix, size, vision, width)


def _block_mlp(family: str, name: str, size: int, vision: dict) -> Shapes:
    if family == "qwen2_vl":
        inner = size * vision["mlp_ratio"]
        return _linear(f"{name}.fc1", inner, size) | _linear(f"{name}.fc2", size, inner)
    inner = vision["intermediate_size"]
    if family == "qwen3_vl":
        up, down = "linear_fc1", "linear_fc2"
        return _linear(f"{name}.{up}", inner, size) | _linear(f"{name}.{down}", size, inner)
    up = _linear(f"{name}.gate_proj", inner, size) | _linear(f"{name}.up_proj", inner, size)
    return up | _linear(f"{name}.down_proj", size, inner)


def _mergers(family: str, prefix: str, size: int, vision: dict, width: int) -> Shapes:
    four = size * vision["spatial_merge_size"] ** 2
    if family != "qwen3_vl":
        shapes = _norm(f"{prefix}.merger.ln_q", size, bias=family == "qwen2_vl")
        shapes |= _linear(f"{prefix}.merger.mlp.0", four, four)
        return shapes | _linear(f"{prefix}.merger.mlp.2", width, four)
    taps = range(len(vision["deepstack_visual_indexes"]))
    shapes = {}
    for name in ("merger", *(f"deepstack_merger_list.{i}" for i in taps)):
        # DeepStack's mergers norm after the four patches of a token are joined, the main one before
        shapes |= _norm(f"{prefix}.{name}.norm", size if name == "merger" else four, bias=True)
        shapes |= _linear(f"{prefix}.{name}.linear_fc1", four, four)
        shapes |= _linear(f"{prefix}.{name}.linear_fc2", width, four)
    return shapes
