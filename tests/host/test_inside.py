"""The tests in inside/, run by ComfyUI's own Python: its classes in one process with ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from other_python import pytest_run

INSIDE = Path(__file__).parent / "inside"
# Half of the time: test_inside_rows.py runs them, so that two can run at a time.
ROWS = ("test_native_rows.py", "test_native_files.py", "test_swapped_nodes.py")

pytestmark = pytest.mark.timeout(1800)  # one test here runs most of a folder


def run_inside(checkout, its_pytest, *tests: Path | str) -> None:
    """Runs tests of inside/, and fails where one of them failed or was skipped."""
    ran = pytest_run(
        checkout.python, *tests, PYTHONPATH=str(its_pytest), VLMC_INSIDE=str(checkout.path)
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-4000:]
    last = ran.stdout.splitlines()[-1]
    assert "passed" in last and "skipped" not in last, ran.stdout[-4000:]


def test_all_but_the_targets_rows_pass(checkout, its_pytest):
    run_inside(checkout, its_pytest, INSIDE, *(f"--ignore={INSIDE / name}" for name in ROWS))


def test_the_ordinary_run_leaves_them_out():
    ran = pytest_run(sys.executable, INSIDE, "--collect-only")
    assert "::" not in ran.stdout and "no tests" in ran.stdout, ran.stdout[-2000:]


def test_it_is_the_pytest_that_was_installed_for_it(checkout, its_pytest):
    ran = pytest_run(checkout.python, "--version", "--version", PYTHONPATH=str(its_pytest))
    assert str(its_pytest / "pytest" / "__init__.py") in ran.stdout + ran.stderr
