#!/usr/bin/env python3
"""Makes the pictures that `python -m vlm evaluate` measures, through ComfyUI's HTTP API."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
import time
from pathlib import Path

from sweeping.cases import Case, Setting, fill, parse_setting, read_cases
from sweeping.pages import write_whole
from sweeping.script import print_any_letter, run_script
from sweeping.server import Server
from sweeping.workflow import Prompt, SweepError, load_prompt

EPILOG = """\
Start ComfyUI first. A line of CASES is
  {"name": "boat", "prompt": "a boat at dusk", "reference": "boat.png", "seeds": [1, 2]}
Its words go where sweep.py --prompt puts them, its reference (the first, of several) into Load
Image, the seed into every sampler. What a line leaves out stays as the workflow has it; seeds come
from --seeds then. References lie in the folder of CASES.

examples:
  gallery.py z-image-picture-style.json cases.jsonl --out out --seeds 1,2,3 \\
             --setting "alpha 0.3: VLMCAlphaBlend.alpha=0.3" \\
             --setting "alpha 0.5: VLMCAlphaBlend.alpha=0.5; VLMCHiddenLayerSelect.layers=-6"

It leaves DIR/SETTING/NAME_SEED.png, and says the command that measures them. Run the same command
again after a stop: pictures that are there already are not made again, unless the workflow changed.
"""
MADE = ".made.json"  # of a setting's folder: what each picture was made from


def main(argv: list[str] | None = None) -> int:
    """Makes the pictures; the exit code."""
    print_any_letter()
    options = parse_arguments(argv)
    server = Server(options.server)
    return run_script("gallery.py", server, lambda: make(server, options))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("workflow", type=Path, metavar="WORKFLOW", help="a workflow in API format")
    add("cases", type=Path, metavar="CASES", help="JSON Lines with name, prompt, reference, seeds")
    add("--setting", action="append", default=[], metavar="NAME: NODE.INPUT=VALUE; ...",
        dest="settings", help="values for any inputs, under the name of their folder; may be "
        "repeated (default: the workflow as it is)")  # fmt: skip
    add("--seeds", default="1", metavar="LIST", help="of cases without (default: %(default)s)")
    add("--server", default="127.0.0.1:8188", metavar="HOST:PORT",
        help="address of ComfyUI (default: %(default)s)")  # fmt: skip
    add("--out", type=Path, default=Path("gallery"), metavar="DIR",
        help="folder for the pictures (default: %(default)s)")  # fmt: skip
    return parser.parse_args(argv)


def make(server: Server, options: argparse.Namespace) -> None:
    """Makes what is not there yet, setting by setting: the VLM runs once for each picture."""
    prompt, cases = load_prompt(options.workflow), read_cases(options.cases)
    settings = [*map(parse_setting, options.settings)] or [Setting(options.workflow.stem, ())]
    names = [setting.name.casefold() for setting in settings]
    if len(set(names)) < len(names):
        raise SweepError("Two settings have one name. Give each its own.")
    seeds = parse_seeds(options.seeds)
    jobs = [(case, seed) for case in cases for seed in case.seeds or seeds]
    uploaded = {case.reference: case.reference and server.upload(case.reference) for case in cases}
    runs = [  # all of them before the first is queued: what does not fit is told at once
        (setting, case, seed, fill(prompt, setting, case, seed, uploaded[case.reference]))
        for setting in settings
        for case, seed in jobs
    ]
    began, made = time.monotonic(), 0
    for number, (setting, case, seed, filled) in enumerate(runs, 1):
        new = make_one(server, options.out / setting.name, case, seed, filled)
        made += new
        label = f"{number}/{len(runs)}  {setting.name}  {case.name}  seed {seed}"
        print(label if new else f"{label}  there already", flush=True)
    print(f"{made} of {len(runs)} made in {time.monotonic() - began:.0f} s. Measure them:")
    folders = [f"{setting.name}={options.out / setting.name}" for setting in settings]
    print(shlex.join(["python", "-m", "vlm", "evaluate", *folders, "--cases", str(options.cases)]))


def make_one(server: Server, folder: Path, case: Case, seed: int, prompt: Prompt) -> bool:
    """Makes a picture; False where it is there, made from the same.

    Raises:
        SweepError: As `Server.run`; a workflow that saves several.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, made = folder / f"{case.name}_{seed}.png", read_made(folder)
    text = json.dumps(prompt, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if file.exists() and made.get(file.name) == digest:
        return False
    pictures = server.run(prompt)
    if len(pictures) > 1:
        raise SweepError(
            f"The workflow saved {len(pictures)} pictures, a seed has one. Set batch_size to 1 and "
            "keep one Save Image."
        )
    write_whole(file, pictures[0])
    write_whole(folder / MADE, json.dumps({**made, file.name: digest}).encode())
    return True


def read_made(folder: Path) -> dict[str, str]:
    """What each picture was made from; nothing where that cannot be read, which makes them anew."""
    try:
        found = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def parse_seeds(text: str) -> tuple[int, ...]:
    """The numbers of a list.

    Raises:
        SweepError: There are none, or one is no whole number.
    """
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise SweepError(f"--seeds {text}: write whole numbers from 0, like 1,2,3.")
    return seeds


if __name__ == "__main__":
    sys.exit(main())
