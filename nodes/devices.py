"""The one file that talks to ComfyUI's memory management."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import comfy.utils
import torch

from ..vlm.running.backbone import TEXT
from ..vlm.running.host import Host
from ..vlm.running.huggingface import HuggingFaceBackbone
from .ahead import Ahead
from .casting import make_castable
from .patches import patches_key

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


def text_encoder_options(choice: str) -> dict[str, torch.device]:
    """Options of ComfyUI's own loader for a node's choice of a device; `auto` is its default."""
    if choice == "auto":
        return {}
    device = _load_device(choice)
    return {"load_device": device} | ({"offload_device": device} if choice == "cpu" else {})


class _ManagedHost(Host):
    """What any model in ComfyUI has: its devices, a bar on the node, Cancel.

    The sampler's model can push the weights out; every run asks for them again, and nothing here
    remembers that they were loaded.
    """

    def __init__(self, device: torch.device):
        """Takes the device the model runs on."""
        self.hold_device = management.intermediate_device()
        self.cache_device = management.text_encoder_offload_device()
        self.device = device
        self._bar: comfy.utils.ProgressBar | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """A run on its device, with a bar of its own."""
        management.throw_exception_if_processing_interrupted()
        self._bar = None
        cuda = self.device.type == "cuda"
        with torch.cuda.device(self.device) if cuda else nullcontext():
            yield

    def step(self, done: int, total: int) -> None:
        """Moves the bar on the running node, and stops where the person pressed Cancel."""
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done, total)
        management.throw_exception_if_processing_interrupted()


class Bar:
    """The bar of a node that runs no model, and Cancel."""

    def __init__(self) -> None:
        """Nothing is shown before the first move."""
        self._bar: comfy.utils.ProgressBar | None = None

    def move(self, done: int, total: int) -> None:
        """Moves it, and stops where the person pressed Cancel."""
        management.throw_exception_if_processing_interrupted()
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done, total)


class ComfyHost(_ManagedHost):
    """Puts a Hugging Face model under ComfyUI's memory management, in two parts."""

    def __init__(self, device: str):
        """Takes the node's choice of a device, one of DEVICES."""
        super().__init__(_load_device(device))
        self._patchers: dict[str, comfy.model_patcher.ModelPatcher] = {}
        self._ahead = Ahead()

    def attach(self, backbone: HuggingFaceBackbone) -> None:
        """Wraps the weights so that ComfyUI knows their size and can move them."""
        offload = management.text_encoder_offload_device()
        self._ahead = Ahead()
        self._in_pieces = make_castable(backbone.parts[TEXT], self._ahead)
        self._patchers = {
            name: comfy.model_patcher.ModelPatcher(
                part, load_device=self.device, offload_device=offload
            )
            for name, part in backbone.parts.items()
        }
        self.patcher = self._patchers[TEXT]

    @contextmanager
    def running(self) -> Iterator[None]:
        """A run, for which weights that stayed behind come one layer ahead."""
        with super().running(), self._ahead.running(_copy_stream(self.device)):
            yield

    def bring(self, part: str, memory_bytes: int, keyframe: int = 0) -> None:
        """Has ComfyUI bring the part, and make room for the run.

        The language model may stay behind in pieces that come layer by layer; the vision tower,
        a tenth of its size, comes whole.
        """
        if part == TEXT and self._in_pieces:
            management.load_models_gpu([self._patchers[part]], memory_required=memory_bytes)
        else:
            _bring_whole(self._patchers[part], memory_bytes)


def _copy_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream for copies to a graphics card; None where ComfyUI is told to copy in order."""
    if device.type != "cuda" or management.get_offload_stream(device) is None:
        return None
    return torch.cuda.Stream(device)


def _bring_whole(patcher: comfy.model_patcher.ModelPatcher, memory_bytes: int) -> None:
    """Brings a module whose layers cannot stay behind, and makes room for its run.

    With --novram ComfyUI leaves everything behind, whatever it is asked for; what has no cast of
    its own would then run on two devices.
    """
    management.load_models_gpu([patcher], memory_required=memory_bytes, force_full_load=True)
    if patcher.loaded_size() < patcher.model_size():
        patcher.partially_load(patcher.load_device, extra_memory=patcher.model_size() + 1)


class ManagedModule:
    """A small module, such as a connector, under ComfyUI's memory management.

    Attributes:
        patcher: What ComfyUI's caches recognise a model by.
    """

    def __init__(self, module: torch.nn.Module):
        """Takes a module on the CPU."""
        self.patcher = comfy.model_patcher.ModelPatcher(
            module,
            load_device=management.text_encoder_device(),
            offload_device=management.text_encoder_offload_device(),
        )

    def bring(self, memory_bytes: int) -> None:
        """Has ComfyUI bring the module whole, and make room for its run."""
        management.throw_exception_if_processing_interrupted()
        _bring_whole(self.patcher, memory_bytes)


class ClipHost(_ManagedHost):
    """Runs the text encoder inside a CLIP where ComfyUI itself would run it."""

    def __init__(self, clip: Any):
        """Takes a CLIP, of which nothing is changed."""
        super().__init__(clip.patcher.load_device)
        self.patcher = clip.patcher
        hooks = clip.patcher.forced_hooks
        self._hooks = hooks if clip.use_clip_schedule else None
        if self._hooks is None:
            self.keyframes = [clip.add_hooks_to_dict({})]
            return
        self._schedule = hooks.get_hooks_for_clip_schedule()
        self.keyframes = [
            clip.add_hooks_to_dict({"clip_start_percent": start, "clip_end_percent": end})
            for (start, end), _ in self._schedule
        ]

    @cached_property
    def patches(self) -> str | None:
        """LoRA and the like by what they are; None where the disk cache could not tell them."""
        return None if self.patcher.forced_hooks is not None else patches_key(self.patcher)

    def unpatched(self) -> dict[int, torch.Tensor]:
        """ComfyUI writes LoRA into the weights and keeps those of the file beside."""
        return {
            id(comfy.utils.get_attr(self.patcher.model, name)): kept.weight
            for name, kept in self.patcher.backup.items()
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """A run; hooks are left as ComfyUI leaves them after encoding."""
        try:
            with super().running():
                yield
        finally:
            if self._hooks is not None:
                self._hooks.reset()

    def bring(self, part: str, memory_bytes: int, keyframe: int = 0) -> None:
        """Loads the text encoder with its patches, and with the hooks of the keyframe."""
        management.load_models_gpu([self.patcher], memory_required=memory_bytes)
        if self._hooks is None:
            return
        self._hooks.reset()
        for hook, at in self._schedule[keyframe][1]:
            hook.hook_keyframe._current_keyframe = at  # as comfy.sd.CLIP does; there is no setter
        self.patcher.patch_hooks(self._hooks)
