"""Runs tests of this repository by another Python, such as ComfyUI's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from comfy_find import REPO

# What a run of pytest tells the processes that it starts, and what chooses a Python's packages.
OWN = ("VLMC_INSIDE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def pytest_run(
    python: Path | str, *args: Path | str, **env: str
) -> subprocess.CompletedProcess[str]:
    """`python -m pytest args` in a process of its own, with these environment variables."""
    outside = {k: v for k, v in os.environ.items() if k not in OWN and not k.startswith("PYTEST")}
    # Tiny models on several threads, beside other tests, mostly wait for one another.
    outside["OMP_NUM_THREADS"] = os.environ.get("TEST_THREADS", "1")
    command = [str(python), "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *map(str, args)],
        cwd=REPO,
        env=outside | {"HF_HUB_OFFLINE": "1"} | env,
        capture_output=True,
        text=True,
        timeout=1700,
    )
