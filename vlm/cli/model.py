"""The model that the options name."""

from __future__ import annotations

import argparse
from typing import Any

from ..batch.worker import find_device
from ..load import load
from ..model import VLM
from ..running.disk_cache import DiskCache


def load_model(options: argparse.Namespace, **more: Any) -> VLM:
    """Loads it.

    Args:
        options: `model`, `device`, `dtype`, `tokenizer`, `disk_cache` and `disk_cache_mb`.
        **more: What else `vlm.load` takes.

    Raises:
        ValueError, FileNotFoundError: As `vlm.load`.
    """
    disk = None
    if options.disk_cache is not None:
        disk = DiskCache(options.disk_cache, options.disk_cache_mb)
    device = find_device(options.device)
    more = {"tokenizer": options.tokenizer, "disk_cache": disk, **more}
    return load(options.model, device, options.dtype, **more)
