"""The library's one logger, and what `VLMC_LOG` makes of it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from .quoted import printable

NAME = "vlm_conditioning"
VARIABLE = "VLMC_LOG"
LEVELS = ("debug", "info", "warning", "error")
LOG = logging.getLogger(NAME)


class _OneLine(logging.Filter):
    """Has what a message quotes, such as a file's name, start no line of its own in a log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_escaped, record.args))
        return True


def _escaped(value: object) -> object:
    return printable(str(value)) if isinstance(value, str | Path | Exception) else value


LOG.addFilter(_OneLine())


def set_level(level: str | None) -> None:
    """Shows messages from a level on.

    Args:
        level: One of `LEVELS`, in any case; None or "" = as the program around has it. `debug`
            tells of every run its template, ids, layers, cache hits and devices.
    """
    if not level:
        return
    if level.lower() not in LEVELS:
        LOG.warning("%s is %r, expected one of %s.", VARIABLE, level, ", ".join(LEVELS))
        return
    LOG.setLevel(level.upper())
    if not logging.getLogger().handlers and not LOG.handlers:  # nobody would print it
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s %(levelname)s: %(message)s"))
        LOG.addHandler(handler)


set_level(os.environ.get(VARIABLE))
