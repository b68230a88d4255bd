"""The losses of a recipe with the frozen models that they run through."""

from __future__ import annotations

from pathlib import Path

import torch

from .attention import Attention
from .dit import Dit
from .dit_folder import load_dit, load_vae
from .features import Features
from .flow import Flow
from .objective import Loss, Objective
from .recipe import LOSSES, TrainRecipe
from .teacher import Teacher


def make_objective(
    recipe: TrainRecipe,
    teacher: Teacher,
    features: Features,
    place: torch.device,
    teacher_place: torch.device,
) -> Objective:
    """Loads what the losses of a recipe need beside VLM and text encoder.

    Args:
        recipe: Says what each loss counts.
        teacher: The text encoder.
        features: What was measured of it.
        place: Where the connector learns, and the diffusion model with it.
        teacher_place: Where attention is learnt from.

    Raises:
        FileNotFoundError: The diffusion model's folder lacks a part.
        ValueError: It cannot be read, reads another width, or has no such blocks or streams.
    """
    weights = {name: getattr(recipe, name) for name in LOSSES}
    losses: list[Loss] = []
    if recipe.features:
        losses.append(features)
    if not recipe.needs_dit:
        return Objective(losses, weights)
    folder = Path(recipe.dit)
    dit = load_dit(folder, place, recipe.vlm_dtype, recipe.checkpointing)
    _check_fits(dit, teacher, recipe.dit)
    if recipe.attention:
        same = teacher_place == place
        other = dit if same else load_dit(folder, teacher_place, recipe.vlm_dtype)
        losses.append(Attention(recipe, dit, other))
    if recipe.flow:
        vae, scheduler = load_vae(folder, place, recipe.vlm_dtype)
        if vae.config.latent_channels != dit.channels:
            raise ValueError(
                f"The vae in {recipe.dit} makes {vae.config.latent_channels} channels, its "
                f"transformer reads {dit.channels}. Name the folder of one pipeline (dit)."
            )
        losses.append(Flow(recipe, dit, vae, scheduler))
    # Qwen2VL-Flux's way: CLIP's vector of no words, whatever the picture.
    return Objective(losses, weights, teacher("").pooled if dit.pooled else None)


def _check_fits(dit: Dit, teacher: Teacher, name: str) -> None:
    """Refuses a diffusion model beside another's text encoder."""
    if (dit.width, dit.pooled) != (teacher.width, teacher.pooled):
        raise ValueError(
            f"The diffusion model in {name} reads {dit.width} dimensions and a pooled vector of "
            f"{dit.pooled}, {teacher.name} gives {teacher.width} and {teacher.pooled}. Name both "
            "of one pipeline (dit, teacher)."
        )
