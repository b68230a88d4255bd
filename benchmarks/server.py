"""What the pack costs a ComfyUI server whose folders are full: beside one walk through them.

Makes an input folder with 40 000 pictures and 200 model folders, and takes the time that ComfyUI
spends in our nodes' own functions for a page (/object_info) and for the check of a queued prompt,
in the Python of a real ComfyUI. What both are measured by is `os.walk` through the same folders in
the same round; medians of 15 rounds, in time of the CPU.

Needs a ComfyUI: see tests/host/comfy_find.py for where one is looked for.

    python benchmarks/server.py [--json]
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from table import ROOT, Row, finish, parser, say

PICTURES, MODELS, ROUNDS = 40_000, 200, 15
FOLDERS = 40  # that the pictures lie in, some below others
INSIDE = "VLMC_BENCHMARK_FOLDER"  # set where this script runs itself in ComfyUI's Python
PROMPT = {
    "1": ("VLMCLoader", {"model": "VLM/model-7", "dtype": "auto", "device": "auto"}),
    "2": ("VLMCEncode", {"model": ["1", 0], "prompt": "a boat", "target": "z-image"}),
    "3": (
        "VLMCHiddenLayerSelect",
        {"hidden_states": ["2", 0], "layers": "auto", "combine": "auto"},
    ),
    "4": ("VLMCSaveConditioning", {"conditioning": ["3", 0], "name": "a", "if_exists": "number"}),
    "5": ("VLMCLoadConditioning", {"file": "input/7/a.safetensors"}),
    "6": ("VLMCSaveConditioning", {"conditioning": ["5", 0], "name": "b", "if_exists": "number"}),
}


def fill(base: Path) -> None:
    """The folders of a person who has used ComfyUI for years."""
    for number in range(FOLDERS):
        folder = base / "input" / str(number % 20) / ("older" if number >= 20 else "")
        folder.mkdir(parents=True, exist_ok=True)
        for picture in range(PICTURES // FOLDERS):
            (folder / f"{number:02d}-{picture:05d}.png").touch()
    (base / "input" / "7" / "a.safetensors").touch()
    for number in range(MODELS):
        folder = base / "models" / ("VLM" if number % 2 else "LLM") / f"model-{number}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "qwen3_vl"}')
        for name in ("tokenizer.json", "vocab.json", "merges.txt", "README.md"):
            (folder / name).touch()
        for part in range(4):
            (folder / f"model-0000{part}-of-00004.safetensors").touch()
    for name in ("output", "user"):
        (base / name).mkdir()


def start(base: Path) -> None:
    """ComfyUI's modules with these folders, and the pack beside them, in this process."""
    sys.path.remove(str(ROOT))  # whose folder nodes is no module of ComfyUI
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    pack = types.ModuleType("pack")
    pack.__path__ = [str(ROOT)]
    sys.modules["pack"] = pack
    import folder_paths

    folder_paths.models_dir = str(base / "models")
    for name in ("input", "output", "user"):
        setattr(folder_paths, f"get_{name}_directory", lambda name=name: str(base / name))


def inside(base: Path) -> list[Row]:
    """Measures, in ComfyUI's Python."""
    start(base)
    import execution
    from pack.nodes import NODES, folders, listing

    import nodes as native

    lists = [folders._MODELS, folders._CONNECTORS, folders._STATS, folders._CONDITIONINGS]
    for node in NODES:
        native.NODE_CLASS_MAPPINGS[node.GET_SCHEMA().node_id] = node
    prompt = {number: {"class_type": kind, "inputs": i} for number, (kind, i) in PROMPT.items()}
    spent = Spent(NODES)

    def page() -> None:
        for node in NODES:
            node.GET_NODE_INFO_V1()

    def check() -> None:
        valid = asyncio.run(execution.validate_prompt("p", prompt, None))
        if not valid[0]:
            raise RuntimeError(f"The prompt was refused: {valid[1:]}")

    def forget() -> None:
        for each in lists:
            each.forget()

    def later() -> None:
        """The lists are asked again whether their folders changed."""
        for each in lists:
            each._asked = -listing.math.inf

    def walk() -> None:
        for place in ("input", "models"):
            for _ in os.walk(base / place):
                pass

    time.sleep(listing.SETTLED_SECONDS)
    rows = []
    for name, work in (("/object_info", page), ("check of a prompt", check)):
        page(), check()
        for when, before, limit in (("all new", forget, 2.0), ("nothing changed", later, 0.1)):
            value = ratio(work, before, walk, spent)
            rows.append(Row(f"our nodes in {name}, {when}", value, limit, "of a walk"))
    return rows


class Spent:
    """The time that the server spends in what our nodes define: schemas and checks.

    Attributes:
        seconds: Of the CPU, since it was last set to 0.
    """

    def __init__(self, nodes: Sequence[Any]):
        """Has every node's functions count their time."""
        self.seconds = 0.0
        for node in nodes:
            for name in ("define_schema", "validate_inputs", "fingerprint_inputs"):
                if name in vars(node):
                    setattr(node, name, classmethod(self._counting(vars(node)[name].__func__)))

    def _counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(cls: Any, *args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(cls, *args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        counted.__signature__ = inspect.signature(function)  # ComfyUI asks for the arguments
        return counted


def ratio(
    work: Callable[[], None], before: Callable[[], None], walk: Callable[[], None], spent: Spent
) -> float:
    """Median time of our part of some work over that of a walk, in turn; not of `before`."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(seconds(walk))
        before()
        spent.seconds = 0.0
        work()
        ours.append(spent.seconds)
    return median(ours) / median(theirs)


def seconds(work: Callable[[], None]) -> float:
    """Of the CPU, the system's part included."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> int:
    """Makes the folders, and runs this script in ComfyUI's Python."""
    options = parser(__doc__).parse_args()
    if INSIDE in os.environ:
        rows = [vars(row) for row in inside(Path(os.environ[INSIDE]))]
        print("ROWS " + json.dumps(rows), flush=True)
        return 0
    sys.path.insert(0, str(ROOT / "tests" / "host"))
    from comfy_find import HOW_TO, find_comfyui

    checkout = find_comfyui()
    if checkout is None:
        print(HOW_TO, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        say(f"making {PICTURES} pictures and {MODELS} model folders")
        fill(Path(folder))
        say("measuring")
        path = os.pathsep.join([str(checkout.path), str(ROOT / "benchmarks")])
        ran = subprocess.run(
            [str(checkout.python), __file__],
            env={**os.environ, INSIDE: folder, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
            cwd=checkout.path, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
    lines = [line for line in ran.stdout.splitlines() if line.startswith("ROWS ")]
    if ran.returncode or not lines:
        print(ran.stdout[-2000:] + ran.stderr[-4000:], file=sys.stderr)
        return 2
    rows = [Row(**row) for row in json.loads(lines[-1].removeprefix("ROWS "))]
    return finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
