"""Runs the surfaces in children of this process, and counts what becomes of their inputs."""

from __future__ import annotations

import itertools
import json
import os
import selectors
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .case import Make, Prepare
from .child import SECONDS, TOOL_FAILED, run_inputs
from .judge import FAULTS, HANG, RAW, ToolFailed

LATE = (-signal.SIGPROF, -signal.SIGALRM)
PATIENT = 20.0  # seconds that an input gets once, when it is asked whether it was the imports


@dataclass
class Found:
    """A fault, with what repeats it."""

    surface: str
    seed: int
    number: int
    kind: str
    said: str
    shown: str

    def __str__(self) -> str:
        return (
            f"{self.kind}: --surface {self.surface} --seed {self.seed} --number {self.number}  "
            f"{self.shown}  |  {self.said}"
        )


@dataclass
class Count:
    """What became of the inputs of a surface."""

    kinds: Counter = field(default_factory=Counter)
    seconds: float = 0.0  # of the slowest
    mb: float = 0.0  # that the largest took
    found: list[Found] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """All of them."""
        return sum(self.kinds.values())

    @property
    def faults(self) -> int:
        """Those that must not be."""
        return sum(self.kinds[kind] for kind in FAULTS)


@dataclass
class _Child:
    surface: str
    process: int
    pipe: int
    numbers: Any
    next: int
    until: float
    rest: bytes = b""


class Fuzz:
    """A run over some surfaces."""

    def __init__(
        self,
        surfaces: Mapping[str, Prepare],
        seed: int,
        place: Path,
        tell: Callable[[str], None] = lambda line: None,
    ):
        """Makes what the inputs of the surfaces share.

        Args:
            surfaces: By name.
            seed: Of every input.
            place: A folder; everything lies in it.
            tell: Is given a line for each fault, as it is found.
        """
        self.seed, self.place, self.tell = seed, place, tell
        self.makes: dict[str, Make] = {}
        self.counts = {name: Count() for name in surfaces}
        self._kids: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        for name, prepare in surfaces.items():
            shared = self._shared(name)
            shared.mkdir(parents=True)
            self.makes[name] = prepare(shared)

    def run(self, seconds: float, at_once: int, inputs: int | None = None) -> None:
        """Runs every surface for its share of the time.

        Args:
            seconds: Of the clock, for all of them.
            at_once: Processes that run at a time.
            inputs: Of each surface at most; None = as many as its time allows.
        """
        waiting = list(self.makes)
        share = seconds * at_once / max(1, len(waiting))
        while waiting or self._kids:
            while waiting and len(self._kids) < at_once:
                numbers = itertools.count() if inputs is None else range(inputs)
                self._start(waiting.pop(0), numbers, time.monotonic() + share)
            self._listen()

    def repeat(self, surface: str, number: int) -> None:
        """Runs one input again."""
        self._start(surface, [number], time.monotonic() + 600)
        while self._kids:
            self._listen()

    def _shared(self, surface: str) -> Path:
        return self.place / "shared" / surface

    def _start(self, surface: str, numbers: Iterable[int], until: float) -> None:
        numbers = iter(numbers)
        numbers, own = itertools.tee(numbers)
        self._fork(surface, own, until, numbers)

    def _fork(
        self, surface: str, own: Iterable[int], until: float, numbers: Any, first: float = SECONDS
    ) -> None:
        """`numbers` goes on beside the child's `own`, so that it is known at which one it died."""
        reading, writing = os.pipe()
        room = self.place / "rooms" / f"{surface}-{reading}"
        process = os.fork()
        if not process:
            os.close(reading)
            run_inputs(
                surface, self.makes[surface], self.seed, own, room, self._shared(surface),
                writing, lambda: time.monotonic() < until, first,
            )  # fmt: skip
        os.close(writing)
        self._kids[reading] = _Child(surface, process, reading, numbers, -1, until)
        self._selector.register(reading, selectors.EVENT_READ)

    def _listen(self) -> None:
        for key, _ in self._selector.select():
            kid = self._kids[key.fd]
            data = os.read(kid.pipe, 1 << 16)
            kid.rest += data
            *lines, kid.rest = kid.rest.split(b"\n")
            for line in lines:
                self._count(kid, json.loads(line))
            if not data:
                self._ended(kid)

    def _count(self, kid: _Child, told: dict[str, Any]) -> None:
        if "tool" in told:
            raise ToolFailed(told["tool"])
        next(kid.numbers)
        self._record(kid.surface, told)

    def _record(self, surface: str, told: dict[str, Any]) -> None:
        count = self.counts[surface]
        count.kinds[told["kind"]] += 1
        count.seconds = max(count.seconds, told["seconds"])
        count.mb = max(count.mb, told["mb"])
        if told["kind"] in FAULTS:
            self._found(surface, told["number"], told["kind"], told["said"], told["shown"])

    def _found(self, surface: str, number: int, kind: str, said: str, shown: str) -> None:
        found = Found(surface, self.seed, number, kind, said, shown)
        self.counts[surface].found.append(found)
        self.tell(str(found))

    def _ended(self, kid: _Child) -> None:
        self._forget(kid)
        status = os.waitstatus_to_exitcode(os.waitpid(kid.process, 0)[1])
        if status == TOOL_FAILED:
            raise ToolFailed(f"{kid.surface}: a child ended with {status}")
        if status == 0:
            return
        number = next(kid.numbers)
        self._died(kid.surface, number, status)
        kid.numbers, own = itertools.tee(kid.numbers)
        self._fork(kid.surface, own, kid.until, kid.numbers)

    def _forget(self, kid: _Child) -> None:
        self._selector.unregister(kid.pipe)
        os.close(kid.pipe)
        del self._kids[kid.pipe]
        shutil.rmtree(self.place / "rooms" / f"{kid.surface}-{kid.pipe}", ignore_errors=True)

    def _died(self, surface: str, number: int, status: int) -> None:
        """An input ended its process: of time, or it crashed."""
        told: list[dict[str, Any]] = []
        if status in LATE:
            status, told = self._again(surface, number)
        count = self.counts[surface]
        if status in LATE:
            count.kinds[HANG] += 1
            kind = "waited" if status == -signal.SIGALRM else "computed"
            self._found(surface, number, HANG, f"{kind} too long", self._shown(surface, number))
        elif status or not told:
            count.kinds[RAW] += 1
            said = f"the process ended by {signal.Signals(-status).name if status < 0 else status}"
            self._found(surface, number, RAW, said, self._shown(surface, number))
        else:  # once everything is imported it is in time
            self._record(surface, told[-1])

    def _again(self, surface: str, number: int) -> tuple[int, list[dict[str, Any]]]:
        """The same input twice in a process of its own; how that ended.

        What is only imported when it is first needed is no hang: the first time has all the time.
        """
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            os.close(reading)
            room = self.place / "rooms" / f"{surface}-again"
            twice = [number, number]
            make = self.makes[surface]
            run_inputs(
                surface, make, self.seed, twice, room, self._shared(surface), writing,
                lambda: True, PATIENT,
            )  # fmt: skip
        os.close(writing)
        with open(reading, "rb") as pipe:
            told = [json.loads(line) for line in pipe]
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), told

    def _shown(self, surface: str, number: int) -> str:
        """The line of an input that ended its process: it is made once more and not run."""
        from .draw import Draw

        place = self.place / "rooms" / f"{surface}-shown"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        here = os.getcwd()
        try:
            os.chdir(place)
            return self.makes[surface](Draw(f"{self.seed} {surface} {number}"), place).shown
        finally:
            os.chdir(here)
            shutil.rmtree(place, ignore_errors=True)


def table(counts: Mapping[str, Count]) -> str:
    """The counts in Markdown."""
    heads = ["surface", "inputs", "good", "refused in words", *FAULTS, "slowest", "most memory"]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for name, count in counts.items():
        kinds = [f"{count.kinds[kind]}" for kind in heads[2:-2]]
        cost = [f"{count.seconds:.2f} s", f"{count.mb:.0f} MB"]
        rows.append([name, str(count.inputs), *kinds, *cost])
    both = list(counts.values())
    kinds = [str(sum(count.kinds[kind] for count in both)) for kind in heads[2:-2]]
    most = [f"{max(c.seconds for c in both):.2f} s", f"{max(c.mb for c in both):.0f} MB"]
    rows.append(["all", str(sum(count.inputs for count in both)), *kinds, *most])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
