"""Faults planted in surfaces of their own, so that the tool itself is seen to count each.

`python -m tests.fuzz.planted` runs them and prints the kinds that were counted, as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import vlm
from vlm.tokens.layer_spec import parse_layers

from . import child, run
from .case import Case, Make, Prepare
from .draw import Draw
from .judge import Refused


def _forever() -> None:
    while True:
        pass


def _slow_once() -> None:
    """As what is imported when it is first needed: slow in a new process, and never again."""
    global _imported
    began = time.process_time()
    while not _imported and time.process_time() - began < child.SECONDS + 0.5:
        pass
    _imported = True


def _opened(name: str, mode: str = "r") -> None:
    with open(name, mode):
        pass


def _linked() -> None:
    os.symlink("../bait.txt", "link")
    _opened("link")


def _failed() -> None:
    raise Refused("KeyError: 'a'")


_imported = False
PLANTED: dict[str, Callable[[], Any]] = {
    "a result": lambda: torch.ones(2),
    "a sentence": lambda: parse_layers("x", 5),
    "a file inside": lambda: _opened("a.txt", "w"),
    "a file that is not there": lambda: vlm.load_stats("a.safetensors"),
    "slow once": _slow_once,
    "no attribute": lambda: None.missing,  # type: ignore[attr-defined]
    "a bare key": lambda: {}["a"],
    "another's sentence": lambda: json.loads("x"),
    "no sentence in a log": _failed,
    "a crash": lambda: ctypes.string_at(0),
    "NaN": lambda: vlm.Tokens(torch.full((1, 2, 3), float("nan"))),
    "computing for ever": _forever,
    "waiting for ever": lambda: time.sleep(60),
    "600 MB": lambda: len(b"a" * (600 * 2**20)) and None,
    "8 GB": lambda: torch.empty(2**33, dtype=torch.uint8),
    "a file outside": lambda: _opened("../bait.txt"),
    "a link that leads out": _linked,
    "a file made outside": lambda: _opened("../new.txt", "w"),
    "a file of the system": lambda: _opened("/etc/passwd"),
    "a name looked up": lambda: socket.getaddrinfo("localhost", 80),
    "a program": lambda: subprocess.run(["true"], check=True),
    "code of a file": lambda: _opened("it-ran", "w"),
}


def prepare_one(action: Callable[[], Any]) -> Prepare:
    """A surface of which every input is this."""

    def prepare(base: Path) -> Make:
        return lambda draw, room: Case(f"{draw.randint(0, 10**9)}", action)

    return prepare


def prepare_broken(base: Path) -> Make:
    """A surface that falls over itself."""

    def make(draw: Draw, room: Path) -> Case:
        return Case("", [].items)  # type: ignore[attr-defined]

    return make


def main() -> None:
    """Runs all of them, one a second time by its number, and what must stop the tool."""
    child.WAITING, run.PATIENT = 1, child.SECONDS + 2.0
    with tempfile.TemporaryDirectory() as place:
        surfaces = {name: prepare_one(action) for name, action in PLANTED.items()}
        fuzz = run.Fuzz(surfaces, 1, Path(place).resolve())
        fuzz.run(600, 2, inputs=1)
        fuzz.repeat("NaN", 5)
        kinds = {name: dict(count.kinds) for name, count in fuzz.counts.items()}
        lines = [str(found) for count in fuzz.counts.values() for found in count.found]
        try:
            run.Fuzz({"broken": prepare_broken}, 1, Path(place).resolve()).run(60, 1, inputs=1)
            stopped = ""
        except run.ToolFailed as error:
            stopped = str(error)
    sys.stdout.write(json.dumps({"kinds": kinds, "lines": lines, "stopped": stopped}))


if __name__ == "__main__":
    main()
