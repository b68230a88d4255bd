"""GGUF text encoders through city96/ComfyUI-GGUF, in ComfyUI's own Python beside our pack.

COMFYUI_GGUF is the folder of that node pack; without it these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from installs import InstallFailed, own_gguf
from other_python import pytest_run

TESTS = Path(__file__).parent / "inside" / "test_gguf.py"
PACK = os.environ.get("COMFYUI_GGUF")


@pytest.mark.skipif(PACK is None, reason="COMFYUI_GGUF names no folder of city96/ComfyUI-GGUF")
def test_vlm_from_clip_runs_what_its_loader_gives(checkout, its_pytest):
    try:
        packages = own_gguf(checkout.python)
    except InstallFailed as error:
        pytest.fail(str(error), pytrace=False)
    ran = pytest_run(
        checkout.python,
        TESTS,
        PYTHONPATH=os.pathsep.join(map(str, (its_pytest, packages))),
        VLMC_INSIDE=str(checkout.path),
        COMFYUI_GGUF=str(PACK),
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-4000:]
    last = ran.stdout.splitlines()[-1]
    assert "passed" in last and "skipped" not in last, ran.stdout[-4000:]
