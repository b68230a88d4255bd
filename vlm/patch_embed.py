"""The vision tower's first layer as the matrix product it is."""

from __future__ import annotations

import torch


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
