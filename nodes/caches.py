"""The caches that both loaders offer: of prefixes in memory, of prompts on disk."""

from __future__ import annotations

from comfy_api.latest import io

from ..vlm.running.disk_cache import DiskCache
from . import folders

PREFIX_CACHE_MB = 1024


def prefix_cache_input() -> io.Input:
    """The widget of the prefix cache's bound."""
    return io.Int.Input(
        "prefix_cache_mb",
        default=PREFIX_CACHE_MB,
        min=0,
        max=65536,
        optional=True,
        advanced=True,
        tooltip="Memory in MB for pictures already seen: with the same pictures, a changed prompt "
        "then runs only its own tokens. 0 = keep nothing.",
    )


def disk_cache_input() -> io.Input:
    """The widget of the disk cache's bound."""
    return io.Int.Input(
        "disk_cache_mb",
        default=0,
        min=0,
        max=1048576,
        step=256,
        optional=True,
        advanced=True,
        tooltip="Disk space in MB for prompts already encoded, kept beyond a restart in the user "
        "folder under vlm_conditioning/cache, which can be deleted at any time. 0 = nothing is "
        "kept.",
    )


def disk_cache(limit_mb: int) -> DiskCache | None:
    """The cache of that size; None for 0."""
    return DiskCache(folders.disk_cache_folder(), limit_mb) if limit_mb else None
