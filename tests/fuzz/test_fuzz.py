"""The fuzz tool itself: each kind of fault is planted and counted, and what is none is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = {
    "good": ["a result", "a file inside", "slow once"],
    "refused in words": ["a sentence", "a file that is not there"],
    "raw exception": [
        "no attribute", "a bare key", "another's sentence", "no sentence in a log", "a crash",
    ],
    "broken result": ["NaN"],
    "hang": ["computing for ever", "waiting for ever"],
    "memory": ["600 MB", "8 GB"],
    "outside": [
        "a file outside", "a link that leads out", "a file made outside", "a file of the system",
        "a name looked up",
    ],
    "executed": ["a program", "code of a file"],
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux"),
]


@pytest.fixture(scope="module")
def seen():
    """In a process of its own: it forks, and pytest has threads."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.planted"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", EXPECTED)
def test_what_is_planted_is_counted_and_the_run_goes_on(seen, kind):
    found = {name for name, kinds in seen["kinds"].items() if set(kinds) == {kind}}
    assert found == set(EXPECTED[kind]), seen["kinds"]


def test_a_fault_is_told_with_what_repeats_it(seen):
    first, again = (line for line in seen["lines"] if "--surface NaN" in line)
    assert first.startswith("broken result: --surface NaN --seed 1 --number 0  ")
    assert again.startswith("broken result: --surface NaN --seed 1 --number 5  ")
    assert first.split()[8] != again.split()[8]  # what was drawn
    assert len(seen["lines"]) == 1 + sum(len(EXPECTED[kind]) for kind in list(EXPECTED)[2:])


def test_a_fault_of_the_tool_is_none_of_the_product(seen):
    assert "'list' object has no attribute 'items'" in seen["stopped"]
