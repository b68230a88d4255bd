"""What the scripts have in common: how they print and how they end."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

from .server import Server
from .workflow import SweepError


def print_any_letter() -> None:
    """Letters that stdout cannot show are no failure."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def run_script(name: str, server: Server, work: Callable[[], None]) -> int:
    """Does a script's work; its exit code.

    Args:
        name: Of the script's file, for messages.
        server: What runs there is stopped with the script.
        work: Raises SweepError where something does not fit.
    """
    try:
        work()
    except SweepError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        server.stop()
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    return 0
