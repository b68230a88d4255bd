"""Runs inputs of a surface, one after the other, in a process that may die of any of them.

The parent forks it with everything imported. A line of JSON goes to the parent for each input.
Limits are the system's, so that they hold in the middle of a library: seconds of computing
(SIGPROF), seconds of waiting (SIGALRM), and addresses.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import re
import resource
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .case import Make
from .draw import Draw
from .judge import EXECUTED, MEMORY, OUTSIDE, Verdict, judge_error, judge_value
from .watch import Watch

SECONDS = 2  # of computing
WAITING = 12  # seconds beyond four times those, on a busy machine: a pipe, a socket, a lock
MOST_MB = 500
ADDRESSES = 2 * 2**30  # bytes beyond what the process begins with; what is more cannot be had
TOOL_FAILED = 70
PLACE = "case"  # the folder of an input
BAITS = ("x", "bait.txt", "bait.png", "bait.safetensors", "bait.json")


def run_inputs(
    surface: str,
    make: Make,
    seed: int,
    numbers: Iterable[int],
    room: Path,
    shared: Path,
    out: int,
    going_on: Callable[[], bool],
    first_seconds: float = SECONDS,
) -> None:
    """Runs inputs and tells of each; never returns.

    Args:
        surface: Its name.
        make: Makes an input.
        seed: Of the run.
        numbers: Of the inputs.
        room: A folder of this process alone; what an input finds or writes lies in it.
        shared: What all inputs of the surface may read.
        out: A pipe's end.
        going_on: Asked before each input.
        first_seconds: The limit for the first, which may import something.
    """
    status = TOOL_FAILED
    try:
        _be_quiet()
        _limit_addresses()
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir(parents=True)
        for name in BAITS:  # outside an input's folder, for names that lead there
            (room / name).write_bytes(b"outside")
        watch = Watch(room / PLACE, shared)
        limit = first_seconds
        for number in numbers:
            if not going_on():
                break
            told = one_input(surface, make, seed, number, room, watch, limit)
            os.write(out, (json.dumps(told) + "\n").encode())
            limit = SECONDS
        status = 0
    except BaseException as error:  # of the tool, not of the product: the parent stops at it
        import traceback

        told = {"tool": f"{surface} --seed {seed}: {error!r}\n{traceback.format_exc()}"}
        os.write(out, (json.dumps(told) + "\n").encode())
    finally:
        os._exit(status)


def one_input(
    surface: str, make: Make, seed: int, number: int, room: Path, watch: Watch, limit: float
) -> dict[str, Any]:
    """What became of one input."""
    place = room / PLACE
    place.mkdir()
    os.chdir(place)
    case = make(Draw(f"{seed} {surface} {number}"), place)
    gc.collect(0)
    before, start = _memory(reset=True), time.process_time()
    _set_timers(limit)
    with watch.over():
        try:
            verdict = judge_value(case.run())
        except BaseException as error:
            verdict = judge_error(error)
    _set_timers(0)
    seconds, grown = time.process_time() - start, max(0.0, _memory() - before)
    if grown > MOST_MB:
        verdict = Verdict(MEMORY, f"{grown:.0f} MB more")
    if watch.outside:
        verdict = Verdict(OUTSIDE, watch.outside[0])
    if watch.executed:
        verdict = Verdict(EXECUTED, watch.executed[0])
    os.chdir(room)
    _remove(place)
    return {
        "number": number,
        "kind": verdict.kind,
        "said": verdict.said.encode("unicode_escape").decode("ascii"),
        "shown": case.shown,
        "seconds": round(seconds, 4),
        "mb": round(grown, 1),
    }


def _set_timers(seconds: float) -> None:
    """Both end the process by a signal that nothing handles; 0 = never."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAITING + 4 * seconds if seconds else 0)


def _be_quiet() -> None:
    """Warnings and what is printed belong to no input; what is logged is formatted all the same."""
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    with open(os.devnull, "r+b", buffering=0) as nothing:
        for stream in (0, 1, 2):
            os.dup2(nothing.fileno(), stream)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()
    warnings.simplefilter("ignore")
    logging.raiseExceptions = True


def _limit_addresses() -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESSES, taken + ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _memory(reset: bool = False) -> float:
    """MB that the process took at most since the last reset; with `reset` those it has now."""
    with suppress(OSError):
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
    row = "VmRSS" if reset else "VmHWM"
    found = re.search(rf"{row}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _remove(place: Path) -> None:
    for folder, _, _ in os.walk(place):
        with suppress(OSError):
            os.chmod(folder, 0o700)
    shutil.rmtree(place, ignore_errors=True)
    if place.exists():
        raise RuntimeError(f"{place} could not be emptied")
