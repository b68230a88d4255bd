#!/usr/bin/env python3
"""Queues a workflow many times through ComfyUI's HTTP API, over values of any of its inputs."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from sweeping.axes import Axis, Run, all_runs, alpha_and_layers, parse_axis
from sweeping.pages import Made, write_index, write_sheet, write_whole
from sweeping.script import print_any_letter, run_script
from sweeping.server import Server
from sweeping.workflow import (
    Prompt,
    SweepError,
    load_prompt,
    parse_value,
    set_place,
    set_values,
    set_words,
)

EPILOG = """\
Start ComfyUI first. WORKFLOW is one of the .json files beside this script, or your own, saved in
ComfyUI with Export (API). Every combination of the values is sampled once; the VLM encodes
picture and prompt once more only where an axis changes what it reads.

NODE in NODE.INPUT is a class (KSampler: all of them), CLASS#ID (KSampler#18) or #ID where several
are there, or a node's title ("Negative prompt"). Inputs that a wire feeds are not set.

examples:
  sweep.py z-image-picture-style.json --alpha 0,0.15,0.3,0.5 --layers=-2,-8
  sweep.py z-image-picture-style.json --alpha 0.3 --layers "-2; -8; -2:0.7, -8:0.3"
  sweep.py z-image-picture-style.json --axis KSampler.seed=1,2 --axis VLMCTokenFilter.keep=text,all
  sweep.py z-image-hand-over.json --layers=-4,-8 --image cat.png --prompt "a cat in the snow" \\
           --set VLMCTimeHandover.percent=0.1 --set KSampler.seed=7

In DIR it leaves the pictures, sheet.png with all of them, and index.html for the browser: the last
axis in columns, the others in rows. Run the same command again after a stop: pictures that are
there already are not made again.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the sweep; the exit code."""
    print_any_letter()
    options = parse_arguments(sys.argv[1:] if argv is None else argv)
    server = Server(options.server)

    def work() -> None:
        prompt = load_prompt(options.workflow)
        axes = [*alpha_and_layers(options.alpha, options.layers), *map(parse_axis, options.axes)]
        prepare(prompt, options, server)
        sweep(server, prompt, axes, options)

    return run_script("sweep.py", server, work)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("workflow", type=Path, metavar="WORKFLOW", help="a workflow in API format")
    add("--axis", action="append", default=[], metavar="NODE.INPUT=LIST", dest="axes",
        help="values for any input, such as KSampler.cfg=1,2,4; separate them by semicolons where "
        "one of them has a comma; may be repeated")  # fmt: skip
    add("--alpha", default="", metavar="LIST", help="values for Alpha Blend or Style Delta: 0,0.3")
    add("--layers", default="", metavar="LIST", help="values for Hidden Layer Select: -2,-8; "
        "separate them by semicolons where one of them has a comma")  # fmt: skip
    add("--prompt", metavar="WORDS", help="the prompt, instead of the workflow's")
    add("--image", type=Path, metavar="FILE", help="a picture; uploaded and put into Load Image")
    add("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", dest="settings",
        help="any other value, such as KSampler.steps=4; may be repeated")  # fmt: skip
    add("--server", default="127.0.0.1:8188", metavar="HOST:PORT",
        help="address of ComfyUI (default: %(default)s)")  # fmt: skip
    add("--out", type=Path, default=Path("sweep"), metavar="DIR",
        help="folder for the pictures (default: %(default)s)")  # fmt: skip
    return parser.parse_args(join_negatives(argv))


def join_negatives(argv: list[str]) -> list[str]:
    """`--layers -2,-8` as `--layers=-2,-8`: argparse takes a leading minus for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--alpha", "--layers") and re.match(r"-\d|-\.", word):
            joined[-1] += "=" + word
        else:
            joined.append(word)
    return joined


def prepare(prompt: Prompt, options: argparse.Namespace, server: Server) -> None:
    """Puts what is the same for the whole sweep into the workflow."""
    for setting in options.settings:
        place, mark, value = setting.partition("=")
        if not mark or "." not in place:
            raise SweepError(f"--set {setting}: write CLASS.INPUT=VALUE, like KSampler.steps=4.")
        set_place(prompt, place, parse_value(value))
    if options.prompt is not None:
        set_words(prompt, options.prompt)
    if options.image is not None:
        set_values(prompt, ("LoadImage",), "image", server.upload(options.image))


def sweep(server: Server, prompt: Prompt, axes: list[Axis], options: argparse.Namespace) -> None:
    """Makes the pictures that are not there yet, one after another, then the pages."""
    runs = all_runs(prompt, axes)
    options.out.mkdir(parents=True, exist_ok=True)
    began, made = time.monotonic(), 0
    try:
        for number, run in enumerate(runs, 1):
            stem = run.stem(options.workflow)
            label = "  ".join([f"{number}/{len(runs)}", *run.words])
            if (options.out / f"{stem}.png").exists():
                print(f"{label}  there already")
                continue
            start = time.monotonic()
            show(f"{label}  …")
            # The one whose name says that all are there comes last.
            for index, picture in reversed(list(enumerate(server.run(run.prompt)))):
                name = f"{stem}.png" if index == 0 else f"{stem}_{index + 1}.png"
                write_whole(options.out / name, picture)
            made += 1
            left = (time.monotonic() - began) / made * (len(runs) - number)
            show(f"{label}  {time.monotonic() - start:.1f} s, about {left:.0f} s left\n")
    finally:
        write_pages(runs, axes, options)
    print(f"{made} of {len(runs)} made in {time.monotonic() - began:.0f} s: {options.out}")


def write_pages(runs: list[Run], axes: list[Axis], options: argparse.Namespace) -> None:
    """The index page and the sheet, of the pictures there are."""
    made = [Made(run, files(options.out, run.stem(options.workflow))) for run in runs]
    if not any(each.files for each in made):
        return
    title = options.workflow.stem + (f": {options.prompt}" if options.prompt else "")
    settings = {
        "workflow": str(options.workflow),
        "axes": {axis.place: axis.values for axis in axes},
        "prompt": options.prompt,
        "image": None if options.image is None else str(options.image),
        "set": options.settings,
    }
    write_index(options.out / "index.html", title, made, settings)
    missing = write_sheet(options.out / "sheet.png", title, made)
    if missing:
        print(missing, file=sys.stderr)


def files(folder: Path, stem: str) -> list[Path]:
    """The pictures of a combination: none before the first is there, which is written last."""
    first = folder / f"{stem}.png"
    if not first.exists():
        return []
    others = [path for path in folder.glob(f"{stem}_*.png") if number_of(path).isdecimal()]
    return [first, *sorted(others, key=lambda path: int(number_of(path)))]


def number_of(path: Path) -> str:
    """What stands behind the last `_` of a picture's name."""
    return path.stem.rpartition("_")[2]


def show(line: str) -> None:
    """Rewrites the last line on a terminal; elsewhere prints finished lines only."""
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="", flush=True)
    elif line.endswith("\n"):
        print(line, end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
