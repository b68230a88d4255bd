"""What the vision towers of the Qwen-VL families have in common."""

from __future__ import annotations

from typing import Any

import torch

from ..pictures.patch_embed import PatchEmbed
from .family import VisionFeatures


def vision_features(model: Any, pixels: torch.Tensor, grid: tuple[int, ...]) -> VisionFeatures:
    """Runs the tower on one picture or video, on transformers 4.57 to 5.x."""
    output = model.get_image_features(pixels, torch.tensor([grid], device=pixels.device))
    if hasattr(output, "deepstack_features"):
        # Some versions of 5.x split the levels by picture, others do not.
        deepstack = [
            level if isinstance(level, torch.Tensor) else torch.cat(tuple(level))
            for level in output.deepstack_features
        ]
        return torch.cat(tuple(output.pooler_output)), deepstack
    # 4.57: a tuple of one tensor a picture; with DeepStack that tuple and its levels.
    output = getattr(output, "pooler_output", output)
    if isinstance(output[0], torch.Tensor):
        return torch.cat(tuple(output)), []
    features, deepstack = output
    return torch.cat(tuple(features)), list(deepstack)


def use_patch_embed(model: Any) -> None:
    """Gives the tower our patch embedding."""
    model.visual.patch_embed = PatchEmbed(model.visual.patch_embed)
