"""Pad tokens on the left, which look at nothing: their attention is zero, whatever computes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def let_pads_look(allowed: torch.Tensor, pads: int) -> None:
    """Lets the pad tokens in front look at themselves, in place.

    What attention gives a row that looks nowhere is each kernel's own choice: zeros, NaN, or the
    mean of all tokens.

    Args:
        allowed: True where a token may look, [Q, K] of whole sequences.
        pads: Number of pad tokens in front.
    """
    allowed[:pads, :pads].fill_diagonal_(True)


@contextmanager
def blank_pads(layers: Iterable[Any], pads: int) -> Iterator[None]:
    """While it lasts, attention gives the pad tokens in front zeros.

    As scaled dot product attention does with a mask of booleans that lets them look nowhere. X2I's
    connectors were trained on these rows, and their convolution reads them.

    Args:
        layers: Decoder layers of transformers; those without attention are left alone.
        pads: Number of pad tokens in front; 0 = nothing is done.
    """

    def blank(module: torch.nn.Module, args: tuple[torch.Tensor]) -> None:
        args[0][:, :pads] = 0

    blind = [layer.self_attn for layer in layers if hasattr(layer, "self_attn")] if pads else []
    hooks = [attention.o_proj.register_forward_pre_hook(blank) for attention in blind]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
