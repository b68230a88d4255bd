"""Devices and the dtypes that they compute in."""

from __future__ import annotations

import shutil

import torch

from ..devices import multiplies
from ..load import DTYPES
from ..weights import fp8
from .findings import Findings

_FP8 = "fp8 weights"


def examine_devices() -> Findings:
    """Every device that torch finds, with the dtypes in which a small product comes out right."""
    found = Findings()
    for device in find_devices():
        works = {name: multiplies(device, dtype) for name, dtype in DTYPES.items()}
        works[_FP8] = all(multiplies(device, torch.float32, one) for one in fp8.DTYPES.values())
        found.facts.append({"device": str(device), "name": _name(device), "dtypes": works})
        if not works["float32"]:
            text = f"{device} cannot multiply float32 matrices. Reinstall torch and its driver."
            found.problem(str(device), text)
        elif not works[_FP8]:
            text = f"{device} cannot hold fp8 weights: they are converted when they are loaded."
            found.note(str(device), text)
    if len(found.facts) == 1 and shutil.which("nvidia-smi"):
        cuda = torch.version.cuda
        state = f"made for CUDA {cuda}, but finds none" if cuda else "a build without CUDA"
        text = (
            f"nvidia-smi is installed, so there may be a graphics card; torch {torch.__version__} "
            f"is {state}. Everything runs on the CPU until a build that fits the driver is "
            "installed (pytorch.org, Get Started)."
        )
        found.note("cuda", text)
    return found


def find_devices() -> list[torch.device]:
    """cpu, and each cuda, mps and xpu device there is."""
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append(torch.device("mps"))
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        devices += [torch.device("xpu", index) for index in range(torch.xpu.device_count())]
    return devices


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GB"
    if device.type == "xpu":
        return torch.xpu.get_device_name(device)
    return {"cpu": f"{torch.get_num_threads()} threads", "mps": "Apple GPU"}[device.type]
