"""The one file that talks to ComfyUI's memory management."""

from __future__ import annotations

import comfy.model_management as management
import comfy.model_patcher
import comfy.utils
import torch

from ..vlm.host import Host

DEVICES = ("auto", "gpu", "cpu")


def conditioning_device() -> torch.device:
    """Where CONDITIONING lies between nodes."""
    return management.intermediate_device()


def _load_device(choice: str) -> torch.device:
    """`auto` is where ComfyUI runs text encoders."""
    if choice == "cpu":
        return torch.device("cpu")
    if choice == "gpu":
        return management.get_torch_device()
    return management.text_encoder_device()


class ComfyHost(Host):
    """Puts a VLM's weights under ComfyUI's memory management.

    The sampler's model can push them out; every run asks for them again, and nothing here
    remembers that they were loaded.
    """

    def __init__(self, device: str):
        """Takes the node's choice of a device, one of DEVICES."""
        self.hold_device = management.intermediate_device()
        self.cache_device = management.text_encoder_offload_device()
        self._device = _load_device(device)
        self._bar: comfy.utils.ProgressBar | None = None

    def attach(self, weights: torch.nn.Module) -> None:
        """Wraps the weights so that ComfyUI knows their size and can move them."""
        offload = management.text_encoder_offload_device()
        self.patcher = comfy.model_patcher.ModelPatcher(
            weights, load_device=self._device, offload_device=offload
        )

    def before_run(self, memory_bytes: int) -> None:
        """Has ComfyUI bring the weights back, and make room for the run."""
        management.throw_exception_if_processing_interrupted()
        self._bar = None
        # A plain torch layer cannot run half here, half there: all of the weights must come.
        management.load_models_gpu(
            [self.patcher], memory_required=memory_bytes, force_full_load=True
        )

    def step(self, done: int, total: int) -> None:
        """Moves the bar on the running node, and stops where the person pressed Cancel."""
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done, total)
        management.throw_exception_if_processing_interrupted()
