"""What the pack costs when ComfyUI starts: seconds to import it, and what it drags in.

ComfyUI prints how long each folder of custom_nodes took. This starts a real ComfyUI three times
with the pack and reads that line of the third start; the first also compiles Python files. Then it
starts one without the pack, to see which modules of transformers and matplotlib are imported
because of us (ComfyUI imports some of transformers itself).

Needs a ComfyUI: see tests/host/comfy_find.py for where one is looked for.

    python benchmarks/import_time.py [--json]
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from table import ROOT, Row, finish, parser, say

sys.path.insert(0, str(ROOT / "tests" / "host"))

from comfy_find import HOW_TO, Checkout, find_comfyui
from comfy_host import PACK_FOLDER, ComfyHost

STARTS = 3
LIMIT_SECONDS = 0.3
HEAVY = ("transformers", "matplotlib")
# The test-only pack shows which modules a server has imported; it has a line of its own.
WINDOW = {"tiny_native": ROOT / "tests" / "host" / "tiny_native"}


def import_seconds(log: str) -> float:
    """Seconds that ComfyUI printed for our folder at its latest start.

    Raises:
        RuntimeError: The import failed, or the log has no such line.
    """
    lines = re.findall(rf"([\d.]+) seconds( \(IMPORT FAILED\))?: .*{PACK_FOLDER}\s*$", log, re.M)
    if not lines or lines[-1][1]:
        raise RuntimeError(f"ComfyUI did not import the pack.\n{log[-4000:]}")
    return float(lines[-1][0])


def heavy_modules(host: ComfyHost) -> dict[str, set[str]]:
    """Imported modules of transformers and of matplotlib, once every node's schema was asked."""
    host.object_info()
    return {name: set(host.modules(name)) for name in HEAVY}


def measure(checkout: Checkout, folder: Path) -> list[Row]:
    """Starts ComfyUI with the pack and without it."""
    ours = ComfyHost(checkout, folder / "with", packs={**WINDOW, PACK_FOLDER: ROOT})
    for start in range(1, STARTS + 1):
        with ours:
            seconds = import_seconds(ours.log())
            say(f"start {start} of {STARTS}: {seconds} s for our folder")
            there = heavy_modules(ours) if start == STARTS else {}
    with ComfyHost(checkout, folder / "without", packs=WINDOW) as bare:
        without = heavy_modules(bare)
    rows = [Row("import of our folder, third start", seconds, LIMIT_SECONDS, "s")]
    for name in HEAVY:
        added = sorted(there[name] - without[name])
        if added:
            say(f"imported because of us: {', '.join(added[:10])}")
        rows.append(Row(f"modules of {name} because of us", len(added), 0, "modules"))
    return rows


def main() -> int:
    """Measures and prints."""
    options = parser(__doc__).parse_args()
    checkout = find_comfyui()
    if checkout is None:
        print(HOW_TO, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        return finish(measure(checkout, Path(folder)), options.json)


if __name__ == "__main__":
    sys.exit(main())
