"""What all benchmarks share: rows with limits, a table or JSON, and the exit status.

Importing it also puts the repository's root on the import path, so that `import vlm` works in a
script started as `python benchmarks/encode.py` from anywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        name: What was measured.
        value: The number.
        limit: Largest value that passes; None = shown for information.
        unit: Of the value: `s`, `MB`, or what it is a share of.
        least: The limit is the smallest value that passes, instead of the largest.
    """

    name: str
    value: float
    limit: float | None
    unit: str
    least: bool = False

    @property
    def over(self) -> bool:
        """Whether it misses its limit; NaN does."""
        if self.limit is None:
            return False
        return not (self.value >= self.limit if self.least else self.value <= self.limit)


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every benchmark has; add your own."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--json", action="store_true", help="print a list of rows as JSON instead of a table"
    )
    return made


def say(text: str) -> None:
    """A line about what runs now, on the error stream: the results alone go to the output."""
    print(text, file=sys.stderr, flush=True)


def finish(rows: Iterable[Row], as_json: bool) -> int:
    """Prints the rows.

    Args:
        rows: Results in the order to show.
        as_json: A list of `{"name", "value", "limit", "unit", "least"}` instead of a table.

    Returns:
        Exit status: 1 when a row is over its limit, else 0.
    """
    rows = list(rows)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print_table(rows)
    return int(any(row.over for row in rows))


def print_table(rows: Sequence[Row]) -> None:
    """Prints rows in columns; a row over its limit says OVER."""
    lines = [("", "value", "limit", "unit", "")]
    for row in rows:
        limit = "" if row.limit is None else f"{'>= ' * row.least}{row.limit:.4g}"
        verdict = "" if row.limit is None else "OVER" if row.over else "ok"
        lines.append((row.name, f"{row.value:.4g}", limit, row.unit, verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    for name, value, limit, unit, verdict in lines:
        cells = (
            name.ljust(widths[0]),
            value.rjust(widths[1]),
            limit.rjust(widths[2]),
            unit.ljust(widths[3]),
            verdict,
        )
        print("  ".join(cells).rstrip())
