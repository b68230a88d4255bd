"""The library's one logger, and what `VLMC_LOG` makes of it."""

from __future__ import annotations

import logging
import os

NAME = "vlm_conditioning"
VARIABLE = "VLMC_LOG"
LEVELS = ("debug", "info", "warning", "error")
LOG = logging.getLogger(NAME)


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
