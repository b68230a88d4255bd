"""Odd, broken and hostile inputs, seeded: `python -m tests.fuzz --seconds 120 --seed 1`.

An input is its surface, the seed and its number:

    python -m tests.fuzz --seed 1 --surface "token maps" --number 17

Exit status 1 where one of them ends in anything else than a result or a sentence of the product's
own: another exception, a result with NaN or a broken token map, over 2 s of computing (or 20 s of
waiting), over 500 MB, a file outside its folder, a socket, a program. Needs a system with fork and
/proc (Linux).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "agg"}


def main() -> int:
    """Reads the options and runs; the exit status."""
    from .surfaces import SURFACES  # imports torch, which reads the environment

    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=60, help="of the clock, for all surfaces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--surface", action="append", choices=list(SURFACES), help="only this one; can be repeated"
    )
    parser.add_argument("--number", type=int, help="only this input of the one surface")
    parser.add_argument("--inputs", type=int, help="of each surface at most, whatever time is left")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    chosen = {name: SURFACES[name] for name in options.surface or SURFACES}
    if options.number is not None and len(chosen) != 1:
        parser.error("--number is of one --surface")
    return fuzz(chosen, options)


def fuzz(chosen: dict, options: argparse.Namespace) -> int:
    """Runs; the exit status."""
    from .run import Fuzz, table

    def tell(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="vlm-fuzz-", ignore_cleanup_errors=True) as place:
        run = Fuzz(chosen, options.seed, Path(place).resolve(), tell)
        if options.number is None:
            run.run(options.seconds, options.at_once, options.inputs)
        else:
            run.repeat(options.surface[0], options.number)
    tell(table(run.counts))
    return 1 if any(count.faults for count in run.counts.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
