"""One logger for the library and the nodes, and what VLMC_LOG makes of it."""

import ast
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlm.logger import LEVELS, LOG, set_level

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def as_it_was():
    level, handlers = LOG.level, list(LOG.handlers)
    yield
    LOG.setLevel(level)
    LOG.handlers[:] = handlers


@pytest.mark.parametrize("level", [*LEVELS, "DEBUG"])
def test_levels(level):
    set_level(level)
    assert LOG.level == getattr(logging, level.upper())


def test_nothing_said_changes_nothing():
    before = LOG.level
    set_level(None)
    set_level("")
    assert LOG.level == before


def test_an_unknown_level_is_said(caplog):
    set_level("loud")
    assert "VLMC_LOG is 'loud', expected one of debug" in caplog.text


def test_there_is_no_other_logger():
    """`logging.getLogger` and `warnings.warn` stand nowhere else."""
    others = []
    for file in [*(ROOT / "vlm").rglob("*.py"), *(ROOT / "nodes").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            if name in ("getLogger", "warn") and file.name != "logger.py":
                others.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not others, "use vlm.logger.LOG"


@pytest.mark.slow
def test_debug_tells_of_a_run():
    """In a process of its own: the variable is read when the library is imported."""
    words = (
        "import vlm; v = vlm.load('tiny', dtype='float32', layers=2)\n"
        "for text in ('a red house', 'a red boat'): v.encode(text, target='z-image').layer(-1)\n"
    )
    environment = {**os.environ, "VLMC_LOG": "debug"}
    run = subprocess.run(
        [sys.executable, "-c", words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line for line in run.stderr.splitlines() if line.startswith("vlm_conditioning DEBUG: ")]
    said = "\n".join(said)
    for word in ("template z-image", "ids [", "layers 1 to 2", "prefix cache: ", "on cpu"):
        assert word in said, run.stderr
