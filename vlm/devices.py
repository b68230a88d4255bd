"""Devices by name, and what they can do."""

from __future__ import annotations

import torch

from .quoted import told

AUTO = "auto"
_SIDE = 64  # of the matrices that are tried
# What a device or a dtype that does not work may raise; old builds of torch say AssertionError, and
# a device whose package is not there is looked for as a module.
_BROKEN = (
    RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError, AttributeError,
    ImportError,
)  # fmt: skip


def torch_device(device: str | torch.device) -> torch.device:
    """A device that is there.

    Args:
        device: As torch names it; "auto" = the first of cuda, xpu, mps and cpu that is there.

    Raises:
        ValueError: It is not, it does not compute, or the name means nothing.
    """
    if device == AUTO:
        return _fastest()
    try:
        found = torch.device(device)
        three = (torch.ones(2, device=found) + torch.ones(1, device=found) / 2).sum().item()
    except _BROKEN as error:  # `meta` has no numbers, others are not in this build of torch
        raise ValueError(_absent(device)) from error
    if three != 3:
        raise ValueError(_absent(device))
    return found


def _absent(device: str | torch.device) -> str:
    return (
        f"There is no device {told(str(device))} here that computes. Choose cpu, or cuda where "
        "torch finds a GPU."
    )


def multiplies(device: torch.device, dtype: torch.dtype, stored: torch.dtype | None = None) -> bool:
    """Whether a small matrix product on a device is right: tried, not looked up.

    Args:
        device: One that is there.
        dtype: Of the product.
        stored: What the weights are on the device, and are converted from there; None = `dtype`.
    """
    try:
        ones = torch.ones(_SIDE, _SIDE)
        weights = ones.to(stored or dtype).to(device).to(dtype)
        product = (ones.to(device, dtype) @ weights).float().cpu()
    except _BROKEN:
        return False
    return bool((product == _SIDE).all())


def _fastest() -> torch.device:
    xpu = getattr(torch, "xpu", None)
    there = {
        "cuda": torch.cuda.is_available(),
        "xpu": xpu is not None and xpu.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    return torch.device(next((name for name, found in there.items() if found), "cpu"))
