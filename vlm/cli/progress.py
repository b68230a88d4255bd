"""Progress on the error stream, for what lasts over a second; silence for what does not."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..running.host import Host

DELAY = 1.0  # seconds before anything is shown


class ProgressHost(Host):
    """Draws a bar for every run of the model that lasts over `DELAY`."""

    def __init__(self) -> None:
        """Nothing is drawn yet."""
        self._bar: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """A bar from the run's start to its end, also where an error ends it."""
        from tqdm import tqdm

        look = {"unit": "step", "delay": DELAY, "leave": False, "file": sys.stderr}
        with tqdm(desc="Encoding", **look) as self._bar:
            try:
                yield
            finally:
                self._bar = None

    def step(self, done: int, total: int) -> None:
        """Moves the bar on; a full one goes away."""
        if self._bar is None:
            return
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Takes the bar away, also one that an error left half full."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def copying(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes; what it gives is called with bytes done and bytes of all."""
    from tqdm import tqdm

    look = {"unit": "B", "unit_scale": True, "delay": DELAY, "leave": False, "file": sys.stderr}
    with tqdm(desc=what, **look) as bar:

        def step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield step


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Shows `what` and the seconds gone while something without steps lasts."""
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(what, done), daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()


def _watch(what: str, done: threading.Event) -> None:
    from tqdm import tqdm

    pause = 0.5 if sys.stderr.isatty() else 10.0
    look = {"bar_format": "{desc}  {elapsed}", "leave": False, "delay": DELAY}
    with tqdm(desc=what, file=sys.stderr, **look) as bar:
        if done.wait(DELAY):
            return
        bar.refresh()
        while not done.wait(pause):
            bar.refresh()
        bar.clear()


def quiet_transformers() -> None:
    """Keeps transformers' own bars and hints out of the output."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


class JobBar:
    """Jobs done of all, with the time left; lines where nobody watches."""

    def __init__(self, total: int, done: int, what: str = "Encoding", unit: str = "job"):
        """Starts at what an earlier run has done.

        Args:
            total: Jobs of this worker.
            done: Of them, those there already.
            what: Is done.
            unit: What a job is called.
        """
        from tqdm import tqdm

        self._bar = tqdm(
            total=total,
            initial=done,
            unit=unit,
            desc=what,
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
        )
        self._total, self._done = total, done

    def __enter__(self) -> JobBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def step(self) -> None:
        """A job is done, well or not."""
        self._done += 1
        self._bar.update()

    def say(self, line: str) -> None:
        """A line that stays, above the bar if there is one."""
        self._bar.write(line, file=sys.stderr)

    def finished(self, shard: str) -> None:
        """A shard is done: a line where there is no bar."""
        if self._bar.disable:
            self.say(f"{shard}: {self._done} of {self._total} jobs")
