"""Room on the disks."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from .findings import Findings

GB = 2**30
LEAST = 1 * GB


def examine_disks(places: Iterable[Path]) -> Findings:
    """Free room where the places lie, each disk once.

    Args:
        places: Files or folders; those that are not there are left out.
    """
    found, seen = Findings(), set()
    for place in places:
        if not place.exists() or (device := place.stat().st_dev) in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(place)
        fact = {"path": str(place), "free_bytes": usage.free, "total_bytes": usage.total}
        found.facts.append(fact)
        if usage.free < LEAST:
            text = (
                f"Only {usage.free / GB:.1f} GB are free on the disk of {place}, at least "
                f"{LEAST / GB:.0f} are wanted. Delete what is not needed."
            )
            found.problem(str(place), text)
    return found
