"""Flow matching: the diffusion model's own loss on pictures, with the connector alone learning.

Source: rectified flow as diffusers' training scripts have it (`train_dreambooth_flux.py`): times
from the schedule's own table, no weighting, the VAE's distribution sampled.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import nn

from .dit import Condition, Dit
from .item import Item
from .pictures import to_pixels
from .recipe import TrainRecipe


class Noised(NamedTuple):
    """A picture on its way to noise.

    Attributes:
        latents: [C, H, W] float32, noise mixed in.
        sigma: Its share.
        velocity: What the model should say: noise - picture.
    """

    latents: torch.Tensor
    sigma: float
    velocity: torch.Tensor


class Flow:
    """The loss of a frozen diffusion model; see `objective.Loss`."""

    name = "flow"

    def __init__(self, recipe: TrainRecipe, dit: Dit, vae: Any, scheduler: Any):
        """Takes the frozen models.

        Args:
            recipe: Says how large pictures are and how times are drawn.
            dit: Through which the connector learns.
            vae: An AutoencoderKL.
            scheduler: Holds the times.
        """
        self._dit, self._vae, self._sigmas = dit, vae, scheduler.sigmas
        self._size, self._times, self._guidance = recipe.size, recipe.times, recipe.guidance

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """See `objective.Loss`."""
        return self._dit.model, self._vae

    def shadow(self) -> Flow:
        """See `objective.Loss`."""
        other = copy.copy(self)
        other._dit = self._dit.shadow()
        return other

    @torch.no_grad()
    def prepare(self, item: Item) -> Noised:
        """The picture's latents with noise.

        Raises:
            ValueError: The caption has no picture, or it cannot be read.
        """
        from diffusers.training_utils import compute_density_for_timestep_sampling

        if item.picture is None:
            raise ValueError(f"The {item.caption.where} has no picture, which flow needs.")
        generator = item.generator(self.name)
        pixels = to_pixels(item.picture, self._size)[None].to(self._vae.device, self._vae.dtype)
        config = self._vae.config
        spread = self._vae.encode(pixels).latent_dist
        shape = spread.mean.shape
        drawn = spread.mean + spread.std * torch.randn(shape, generator=generator).to(spread.std)
        latents = (drawn[0].float() - (config.shift_factor or 0.0)) * config.scaling_factor
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        draw = compute_density_for_timestep_sampling(
            self._times, 1, logit_mean=0.0, logit_std=1.0, generator=generator
        )
        # 1 itself would be behind the table's end, and a sigmoid can round to it.
        index = min(int(draw * len(self._sigmas)), len(self._sigmas) - 1)
        sigma = float(self._sigmas[index])
        return Noised((1 - sigma) * latents + sigma * noise, sigma, noise - latents)

    def __call__(
        self, item: Item, condition: Condition
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one caption: mean squared error of the velocity."""
        given: Noised = item.given[self.name]
        found = self._dit(given.latents, given.sigma, condition, self._guidance)
        loss = (found - given.velocity.to(found.device)).square().mean()
        return loss, {self.name: loss}
