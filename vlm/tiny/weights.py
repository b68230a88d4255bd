"""Random parameters of the built-in tiny models: same bits for the same name, everywhere.

The numbers come from exact arithmetic (sums of 24-bit uniforms) and from the parameter's name in
the published checkpoints, so that neither the version of transformers nor the processor's math
library changes them.
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
# Mean and deviation. Linear attention that forgot as fast as it learns would remember one token at
# a time, and its norm would blow that up, rounding errors included.
DECAY = -4.0, 0.5
BIAS = 0.05
IMAGE_OFFSET = 0.3  # what all image tokens share, so that their statistics differ from text's

_ATTENTION = re.compile(r"(o_proj|attn\.proj|linear_attn\.out_proj)\.weight$")
_MLP = re.compile(r"(down_proj|blocks\.\d+\.mlp\.(linear_)?fc2)\.weight$|experts\.down_proj$")
_EXPERTS = re.compile(r"\.experts\.\w+_proj$")
_NORM = re.compile(r"(norm\d?|layernorm(_before|_after)?|ln_q)\.weight$|\.lambda_\d$")
_PLACES = re.compile(r"(embed_tokens|pos_embed)\.weight$|\.position_embeddings$")
_INPUTS_FIRST = re.compile(r"\.mm_input_projection_weight$")
_OFFSET = re.compile(
    r"(visual\.merger\.(mlp\.2|linear_fc2)|multi_modal_projector\.linear_2)\.bias$"
)


def draw(name: str, shape: tuple[int, ...], norm: float = 1.0) -> torch.Tensor:
    """One parameter, from a generator seeded by its name.

    Args:
        name: the parameter's name in the published checkpoint layout.
        shape: its shape; the name's ending decides mean and scale.
        norm: mean of a norm's weight.

    Returns:
        float32 tensor; the sum of four uniform numbers stands in for a normal one.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    generator = torch.Generator().manual_seed(seed)
    a, b, c, d = torch.rand((4, *shape), generator=generator)
    unit = (a + b + c + d - 2.0) * math.sqrt(3.0)
    mean, std = _scale(name, shape, norm)
    return unit * std + mean


def _scale(name: str, shape: tuple[int, ...], norm: float) -> tuple[float, float]:
    if _NORM.search(name):
        return norm, NORM
    if name.endswith(".A_log"):
        return DECAY
    if name.endswith(".bias"):
        return 0.0, IMAGE_OFFSET if _OFFSET.search(name) else BIAS
    if _PLACES.search(name):
        return 0.0, EMBED
    share = ATTENTION if _ATTENTION.search(name) else MLP if _MLP.search(name) else 1.0
    inputs = shape[1] if _EXPERTS.search(name) else math.prod(shape[1:])
    if _INPUTS_FIRST.search(name):
        inputs = shape[0]
    return 0.0, share / math.sqrt(inputs)
