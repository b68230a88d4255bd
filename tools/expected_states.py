"""Writes the numbers that versions of transformers are checked against.

`python -m tools.expected_states` writes those of every family that the installed version has;
`python -m tools.expected_states --check` compares instead, and exits with 1 where one differs. Any
version can run it.
"""

from __future__ import annotations

import argparse
import json
import sys

import transformers

import vlm
from vlm.families import FAMILIES
from vlm.files.json_file import read_json
from vlm.running.self_check import EXPECTED, LAYERS, difference, measure

DIGITS = 7


def main() -> int:
    """Writes or compares; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    known = read_json(EXPECTED) if EXPECTED.is_file() else {}
    failed = 0
    for name, family in FAMILIES.items():
        if not hasattr(transformers, family.architecture):
            print(f"{name}: not in transformers {transformers.__version__}")
            continue
        toy = vlm.load("tiny", dtype="float32", family=name, layers=LAYERS)
        if check:
            wrong = difference(toy, family)
            failed += bool(wrong)
            print(f"{name}: {wrong or 'as expected'}")
            continue
        known[name] = {what: [_short(row) for row in rows] for what, rows in measure(toy).items()}
    if not check:
        EXPECTED.write_text(_text(known), encoding="utf-8")
    return int(failed > 0)


def _short(numbers: list[float]) -> list[float]:
    return [float(f"{number:.{DIGITS}g}") for number in numbers]


def _text(known: dict) -> str:
    """JSON with a line for each layer."""
    families = []
    for name, runs in known.items():
        blocks = []
        for what, layers in runs.items():
            lines = ",\n".join(f"   {json.dumps(row)}" for row in layers)
            blocks.append(f"  {json.dumps(what)}: [\n{lines}\n  ]")
        families.append(f" {json.dumps(name)}: {{\n" + ",\n".join(blocks) + "\n }")
    return "{\n" + ",\n".join(families) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
