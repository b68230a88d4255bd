"""The tests in inside/, run by ComfyUI's own Python: its classes in one process with ours."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"
# pytest and what it needs: pure Python, so that any interpreter can borrow them.
BORROWED = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")

pytestmark = pytest.mark.timeout(1800)  # one test here runs a whole folder of them


def pytest_run(python: Path | str, *args: str, **env: str) -> subprocess.CompletedProcess:
    """A pytest of its own for the folder."""
    known = {name: value for name, value in os.environ.items() if name != "VLMC_INSIDE"}
    command = [str(python), "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(INSIDE)]
    return subprocess.run(
        [*command, *args], cwd=ROOT, env=known | env, capture_output=True, text=True, timeout=1700
    )


def test_all_of_them_pass(checkout, tmp_path):
    for name in BORROWED:
        origin = Path(importlib.util.find_spec(name).origin).parent
        (tmp_path / name).symlink_to(origin, target_is_directory=True)
    ran = pytest_run(
        checkout.python,
        PYTHONPATH=str(tmp_path),
        HF_HUB_OFFLINE="1",
        VLMC_INSIDE=str(checkout.path),
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-4000:]
    last = ran.stdout.splitlines()[-1]
    assert "passed" in last and "skipped" not in last, ran.stdout[-4000:]


def test_the_ordinary_run_leaves_them_out():
    ran = pytest_run(sys.executable, "--collect-only")
    assert "::" not in ran.stdout and "no tests" in ran.stdout, ran.stdout[-2000:]
