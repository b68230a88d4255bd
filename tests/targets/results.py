"""What the comparisons found, one JSON line each, for the table in docs/targets.md.

They are kept where `TARGET_RESULTS` names a file; without it nothing is written.
"""

import json
import os
from pathlib import Path


def record(target, oracle, version, pictures, difference, keys=()):
    """Notes one comparison.

    Args:
        target: Name of the row.
        oracle: What it was compared with.
        version: Of the oracle.
        pictures: How many pictures the prompt had.
        difference: Largest difference, relative to the largest value; 0 = bit for bit.
        keys: Options of the CONDITIONING that were equal too.
    """
    place = os.environ.get("TARGET_RESULTS")
    if not place:
        return
    found = {
        "target": target,
        "oracle": oracle,
        "version": version,
        "pictures": pictures,
        "difference": difference,
        "keys": sorted(keys),
    }
    with Path(place).open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
