"""`python -m vlm evaluate`: what results are worth."""

from __future__ import annotations

import argparse
import io
import json
import textwrap
from pathlib import Path
from typing import Any

from PIL import Image

from ..devices import AUTO, torch_device
from ..evaluate.cases import Case, list_cases, read_cases
from ..evaluate.evaluation import Evaluation, evaluate
from ..evaluate.intervals import Interval
from ..evaluate.metrics import CLIP_I, CLIP_T, DINO, METRICS, SSIM, Clip, Dino, Measure, Ssim
from ..evaluate.results import Setting, find_results
from ..files.whole_file import write_whole
from ..quoted import reason
from .output import say, say_table
from .progress import JobBar, quiet_transformers

DESCRIPTION = """\
Measures pictures against references and prompts: CLIP-I, CLIP-T, DINO and SSIM, each with its
confidence interval, and several settings side by side on the same prompts and seeds. Models are
read from folders on this machine. SSIM needs `pip install .[train]`.
"""

EPILOG = """\
Examples:
  python -m vlm evaluate results --references photos --prompts words --clip CLIP --dino DINOV2
      photos/boat.png, words/boat.txt and results/boat.png belong together; results/boat_7.png is
      another result of it, of seed 7
  python -m vlm evaluate "alpha 0.3=out/a" "alpha 0.5=out/b" --cases cases.jsonl --clip CLIP \\
          --json numbers.json --out report
      two settings; a line of cases.jsonl is
      {"name": "boat", "prompt": "a boat at dusk", "reference": "boat.png"}
"""


def add_parser(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure results against references and prompts",
        description=DESCRIPTION,
        epilog=textwrap.dedent(EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "results",
        nargs="+",
        metavar="[NAME=]FOLDER",
        help="pictures of one setting; the first setting is what others are compared with",
    )
    add("--cases", type=Path, metavar="FILE", help="JSON Lines with name, prompt, reference")
    add(
        "--root",
        type=Path,
        metavar="FOLDER",
        help="the folder that references of --cases must lie in (default: the file's)",
    )
    add("--references", type=Path, metavar="FOLDER", help="pictures, one for each case")
    add("--prompts", type=Path, metavar="FOLDER", help="text files, one for each case")
    add("--clip", type=Path, metavar="FOLDER", help="a CLIP model, for CLIP-I and CLIP-T")
    add("--dino", type=Path, metavar="FOLDER", help="a DINO, DINOv2 or DINOv3 model, for DINO")
    add("--device", default=AUTO, metavar="DEVICE", help="where models run (default: %(default)s)")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of the confidence intervals (default: %(default)s)",
    )
    add("--json", type=Path, metavar="FILE", help="write every number as JSON")
    add(
        "--out", type=Path, metavar="FOLDER", help="write plots.png, best.png and worst.png into it"
    )
    add(
        "--sort-by",
        choices=list(METRICS),
        default="",
        metavar="METRIC",
        help=f"what best and worst go by: {', '.join(METRICS)}",
    )
    add("--show", type=int, default=6, metavar="N",
        help="rows of best.png and worst.png (default: %(default)s)")  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        ValueError, FileNotFoundError: As `evaluate`, `find_results` and the measures.
    """
    if options.seed < 0 or options.show < 1:
        raise ValueError("--seed is a whole number from 0, --show one from 1.")
    cases, notes = _cases(options)
    settings: list[Setting] = []
    for text in options.results:
        setting, more = find_results(*_named(text), cases)
        settings.append(setting)
        notes += more
    measures, missing = _measures(options)
    with JobBar(len(cases), 0, "Measuring", "case") as bar:
        found = evaluate(cases, settings, measures, options.seed, bar.step)
    found.notes[:0] = [*missing, *notes]
    _say(found)
    if options.out is not None:
        _write_pictures(found, options)
    if options.json is not None:
        text = json.dumps(found.as_data(), ensure_ascii=False, indent=2, allow_nan=False)
        write_whole(options.json, text.encode())


def _cases(options: argparse.Namespace) -> tuple[list[Case], list[str]]:
    if options.cases is None:
        return list_cases(options.references, options.prompts)
    if options.references or options.prompts:
        raise ValueError(
            "--cases says which references and prompts there are. Leave out --references and "
            "--prompts, or --cases."
        )
    return read_cases(options.cases, options.root), []


def _named(text: str) -> tuple[str, Path]:
    """Name and folder of `NAME=FOLDER`, or of a folder alone."""
    name, mark, folder = text.partition("=")
    if not mark or Path(text).is_dir():
        return Path(text).resolve().name, Path(text)
    if not name.strip() or not folder:
        raise ValueError(f"{text} is neither a folder nor NAME=FOLDER.")
    return name.strip(), Path(folder)


def _measures(options: argparse.Namespace) -> tuple[list[Measure], list[str]]:
    """What there is to measure with, and a line about each metric that is left out."""
    quiet_transformers()
    device = torch_device(options.device)
    measures: list[Measure] = []
    missing: list[str] = []
    if options.clip is not None:
        measures.append(Clip(options.clip, device))
    else:
        missing.append(f"{CLIP_I}, {CLIP_T}: left out, there is no --clip FOLDER")
    if options.dino is not None:
        measures.append(Dino(options.dino, device))
    else:
        missing.append(f"{DINO}: left out, there is no --dino FOLDER")
    try:
        measures.append(Ssim())
    except ModuleNotFoundError as error:
        missing.append(f"{SSIM}: left out. {reason(error)}")
    return measures, missing


def _say(found: Evaluation) -> None:
    """The tables and the lines below them."""
    names, metrics = [each.name for each in found.settings], found.metrics
    rows = [["setting", "results", *metrics]]
    for name in names:
        cells = [_cell(found.mean(name, metric)) for metric in metrics]
        rows.append([name, str(len(found.values[name])), *cells])
    say_table(rows)
    if len(names) > 1:
        say(f"\nminus {names[0]}, on the same cases and seeds (* = the interval leaves out 0)")
        rows = [["setting", "pairs", *metrics]]
        for name in names[1:]:
            each = [found.difference(name, metric) for metric in metrics]
            pairs = max((one.results for one in each if one), default=0)
            cells = [_cell(one, "+") + ("*" if one and one.is_clear else " ") for one in each]
            rows.append([name, str(pairs), *cells])
        say_table(rows)
    say("\nIn brackets: confidence interval of 95 %, bootstrap over cases.")
    for note in found.notes:
        say(note)


def _cell(found: Interval | None, sign: str = "") -> str:
    if found is None:
        return "none"
    number = f"{found.mean:{sign}.3f}"
    if found.low is None:
        return f"{number} [one case]"
    return f"{number} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def _write_pictures(found: Evaluation, options: argparse.Namespace) -> None:
    from ..evaluate.drawing import draw_evaluation
    from ..evaluate.sheets import draw_sheet, ranked

    options.out.mkdir(parents=True, exist_ok=True)
    keys, metric = ranked(found, options.sort_by)
    names = ", ".join(setting.name for setting in found.settings)
    pictures = {"plots": draw_evaluation(found, f"Evaluation of {names}")}
    for which, shown in (("best", keys), ("worst", keys[::-1])):
        title = f"The {which} by {metric} of {len(keys)}; their {metric} by setting"
        pictures[which] = draw_sheet(found, shown[: options.show], metric, title)
    for name, picture in pictures.items():
        write_whole(options.out / f"{name}.png", _png(picture))


def _png(picture: Image.Image) -> bytes:
    written = io.BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()
