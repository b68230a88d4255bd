"""All that a run needs of a loaded model: weights, surroundings, caches."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..families import Family
from .backbone import Backbone
from .disk_cache import DiskCache
from .disk_cache_view import DiskCacheView
from .fingerprint import fingerprint
from .host import Host
from .prefix_cache import PrefixCache


@dataclass(eq=False)
class Engine:
    """A model that runs. It knows nothing of prompts, and nothing that it made.

    Attributes:
        name: What messages call the model.
        family: What its family does its own way.
        backbone: The weights, layer by layer.
        host: Who moves the weights and shows progress.
        prefix_cache: What is known of the beginnings of prompts.
        disk_cache: Keeps the layers asked for beyond this process; None = nothing is kept.
    """

    name: str
    family: Family
    backbone: Backbone
    host: Host = field(default_factory=Host)
    prefix_cache: PrefixCache = field(default_factory=PrefixCache)
    disk_cache: DiskCache | None = None

    def __post_init__(self) -> None:
        """Puts the weights in the host's care."""
        self.host.attach(self.backbone)

    @property
    def patcher(self) -> Any:
        """What ComfyUI's caches recognise a model by; None outside ComfyUI."""
        return self.host.patcher

    @property
    def num_layers(self) -> int:
        """L: decoder layers and the embeddings."""
        return self.backbone.num_decoder_layers + 1

    @cached_property
    def disk_view(self) -> DiskCacheView | None:
        """What of this model is on disk; None where nothing is kept."""
        host = self.host
        patches = host.patches
        if self.disk_cache is None or patches is None:
            return None
        model = fingerprint(self.backbone, patches, host.device, host.unpatched())
        return DiskCacheView(self.disk_cache, model, self.backbone.width)
