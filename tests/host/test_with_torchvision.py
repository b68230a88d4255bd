"""The preprocessing against the families' torchvision-based processors, in ComfyUI's environment.

torchvision is there and not necessarily here; the tests are the library's own, run by its Python.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# pytest and what it needs: pure Python, so that any interpreter can borrow them.
BORROWED = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")

pytestmark = pytest.mark.timeout(1800)  # the test runs five files of tests


def test_the_skipped_comparisons_pass_there(checkout, tmp_path):
    for name in BORROWED:
        origin = Path(importlib.util.find_spec(name).origin).parent
        (tmp_path / name).symlink_to(origin, target_is_directory=True)
    files = [f"tests/vlm/test_{name}.py" for name in ("images", "square", "tiles", "video", "tiny")]
    command = [str(checkout.python), "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *files]
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=1700,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert "skipped" not in ran.stdout.splitlines()[-1], ran.stdout[-2000:]
