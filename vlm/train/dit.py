"""The frozen diffusion models that a connector can be trained through, each called as it expects.

One caption at a time, as Student gives them: captions differ in length, and none of these models
has a mask for what one of them is shorter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import nn

IMAGE, TEXT = "image", "text"
STREAMS = (IMAGE, TEXT)
LATENT = 8  # pixels that a latent stands for along each side, for both models' VAE
PATCH = 2  # latents of a token along each side
META = torch.device("meta")  # where tensors have shapes alone
CELL = LATENT * PATCH  # pixels of a token along each side


@dataclass(frozen=True, eq=False)
class Condition:
    """What a diffusion model reads of a caption.

    Attributes:
        context: [N, W] floating point.
        pooled: [P]; None where the model reads none.
    """

    context: torch.Tensor
    pooled: torch.Tensor | None = None


class Dit(ABC):
    """A diffusion transformer of diffusers.

    Attributes:
        model: Its module, frozen.
        groups: Attention modules by the name of their kind of block, in the order they run.
        has: Streams of each kind of block.
        channels: C of its latents.
        width: W of the context it reads.
        pooled: P of the pooled vector it reads, 0 = none.
    """

    groups: dict[str, list[nn.Module]]
    has: dict[str, tuple[str, ...]]
    channels: int
    width: int
    pooled = 0

    def __init__(self, model: Any):
        """Takes a module of diffusers."""
        self.model = model

    def shadow(self) -> Dit:
        """The same without its numbers, which nothing is computed with but shapes."""
        with META:
            model = type(self.model).from_config(self.model.config)
        nn.Module.to(model, self.model.dtype)  # diffusers' own warns of what it would keep apart
        model = model.eval().requires_grad_(False)
        if self.model.is_gradient_checkpointing:
            model.enable_gradient_checkpointing()
        return type(self)(model)

    @abstractmethod
    def __call__(
        self, latents: torch.Tensor, sigma: float, condition: Condition, guidance: float
    ) -> torch.Tensor:
        """What the model says must be added to reach the noise: noise - picture.

        Args:
            latents: [C, H, W] float32, H and W even.
            sigma: How much of them is noise, 0 to 1.
            condition: Of one caption.
            guidance: Of a model that was distilled with guidance; others ignore it.

        Returns:
            [C, H, W] float32; a gradient flows back to the condition.
        """

    @abstractmethod
    def streams(
        self, group: str, output: Any, image_tokens: int, text_tokens: int
    ) -> dict[str, torch.Tensor]:
        """What an attention module gave, [1, n, D] by `STREAMS`.

        Args:
            group: Of the module.
            output: Of the module.
            image_tokens, text_tokens: Of the pass it is from.
        """


class Flux1(Dit):
    """FLUX.1. Source: diffusers, FluxPipeline."""

    has = {"double": STREAMS, "single": STREAMS}

    def __init__(self, model: Any):
        """Takes a FluxTransformer2DModel."""
        super().__init__(model)
        self.groups = {
            "double": [block.attn for block in model.transformer_blocks],
            "single": [block.attn for block in model.single_transformer_blocks],
        }
        config = model.config
        self.channels = config.in_channels // PATCH**2
        self.width, self.pooled = config.joint_attention_dim, config.pooled_projection_dim

    def __call__(
        self, latents: torch.Tensor, sigma: float, condition: Condition, guidance: float
    ) -> torch.Tensor:
        """See `Dit`."""
        device, dtype = self.model.device, self.model.dtype
        rows, cols = (side // PATCH for side in latents.shape[1:])
        places = torch.zeros(rows, cols, 3, device=device)
        places[..., 1] = torch.arange(rows, device=device)[:, None]
        places[..., 2] = torch.arange(cols, device=device)
        context = condition.context.to(device, dtype)[None]
        pooled = context.new_zeros(1, self.pooled)
        if condition.pooled is not None:
            pooled = condition.pooled.to(device, dtype)[None]
        distilled = self.model.config.guidance_embeds
        (found,) = self.model(
            rearrange(latents, "c (h p) (w q) -> 1 (h w) (c p q)", p=PATCH, q=PATCH).to(
                device, dtype
            ),
            encoder_hidden_states=context,
            pooled_projections=pooled,
            timestep=torch.full((1,), sigma, device=device, dtype=dtype),
            img_ids=places.flatten(0, 1),
            txt_ids=places.new_zeros(context.shape[1], 3),
            guidance=torch.full((1,), guidance, device=device) if distilled else None,
            return_dict=False,
        )
        found = rearrange(
            found, "1 (h w) (c p q) -> c (h p) (w q)", h=rows, w=cols, p=PATCH, q=PATCH
        )
        return found.float()

    def streams(
        self, group: str, output: Any, image_tokens: int, text_tokens: int
    ) -> dict[str, torch.Tensor]:
        """See `Dit`."""
        if group == "double":
            return {IMAGE: output[0], TEXT: output[1]}
        return {IMAGE: output[:, text_tokens:], TEXT: output[:, :text_tokens]}


class ZImage(Dit):
    """Z-Image, whose time runs from noise at 0 and which says what leads to the picture.

    Source: diffusers, ZImagePipeline.
    """

    has = {"noise_refiner": (IMAGE,), "context_refiner": (TEXT,), "layers": STREAMS}

    def __init__(self, model: Any):
        """Takes a ZImageTransformer2DModel."""
        super().__init__(model)
        self.groups = {
            name: [block.attention for block in getattr(model, name)] for name in self.has
        }
        self.channels, self.width = model.config.in_channels, model.config.cap_feat_dim

    def __call__(
        self, latents: torch.Tensor, sigma: float, condition: Condition, guidance: float
    ) -> torch.Tensor:
        """See `Dit`."""
        device, dtype = self.model.device, self.model.dtype
        found = self.model(
            [latents[:, None].to(device, dtype)],
            torch.full((1,), 1 - sigma, device=device),
            [condition.context.to(device, dtype)],
            return_dict=False,
        )[0][0]
        return -found[:, 0].float()

    def streams(
        self, group: str, output: Any, image_tokens: int, text_tokens: int
    ) -> dict[str, torch.Tensor]:
        """See `Dit`; with the pad tokens that the model itself puts behind both."""
        if len(self.has[group]) == 1:
            return {self.has[group][0]: output}
        from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF

        image = -(-image_tokens // SEQ_MULTI_OF) * SEQ_MULTI_OF
        return {IMAGE: output[:, :image], TEXT: output[:, image:]}


# Class in a folder's config.json, and how it is called.
DITS: dict[str, type[Dit]] = {"FluxTransformer2DModel": Flux1, "ZImageTransformer2DModel": ZImage}


def image_tokens(latents: Sequence[int]) -> int:
    """Tokens of latents of the shape [C, H, W]."""
    return (latents[1] // PATCH) * (latents[2] // PATCH)
