"""The vision tower's first layer as the matrix product it is."""

from __future__ import annotations

import torch
from einops import rearrange


class PatchEmbed(torch.nn.Module):
    """Stands where transformers has a Conv3d whose stride is its kernel.

    Every patch meets every kernel once, so the convolution is a linear layer over flattened
    patches; as that it is several times faster on a CPU. The weights and their names stay.
    """

    def __init__(self, original: torch.nn.Module):
        """Takes over the convolution `proj` of a Qwen-VL patch embedding."""
        super().__init__()
        self.proj = original.proj

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Embeds flattened patches: [P, C * T * p * p] to [P, width of the tower]."""
        weight = self.proj.weight.flatten(1)
        return torch.nn.functional.linear(patches.to(weight.dtype), weight, self.proj.bias)


class TilePatchEmbed(torch.nn.Module):
    """The same in the place of a Conv2d over whole tiles.

    The convolution's own kernel for bfloat16 takes 200 MB on a CPU.
    """

    def __init__(self, original: torch.nn.Conv2d):
        """Takes over the weights of a convolution whose stride is its kernel."""
        super().__init__()
        self.weight, self.bias = original.weight, original.bias

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Embeds the patches of tiles: [T, C, S, S] to [T, width of the tower, rows, columns].

        What is left of a side that is no multiple of the patch is not seen, as in a convolution.
        """
        p, q = self.weight.shape[2:]
        tiles = tiles[..., : tiles.shape[2] // p * p, : tiles.shape[3] // q * q]
        patches = rearrange(tiles, "t c (h p) (w q) -> t h w (c p q)", p=p, q=q)
        embedded = torch.nn.functional.linear(patches, self.weight.flatten(1), self.bias)
        return rearrange(embedded, "t h w d -> t d h w")
