"""Devices by name."""

from __future__ import annotations

import torch

from .arguments import told

AUTO = "auto"


def torch_device(device: str | torch.device) -> torch.device:
    """A device that is there.

    Args:
        device: As torch names it; "auto" = the first of cuda, xpu, mps and cpu that is there.

    Raises:
        ValueError: It is not, or the name means nothing.
    """
    if device == AUTO:
        return _fastest()
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"There is no device {told(str(device))} here. Choose cpu, or cuda where torch "
            "finds a GPU."
        ) from error
    return found


def _fastest() -> torch.device:
    xpu = getattr(torch, "xpu", None)
    there = {
        "cuda": torch.cuda.is_available(),
        "xpu": xpu is not None and xpu.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    return torch.device(next((name for name, found in there.items() if found), "cpu"))
