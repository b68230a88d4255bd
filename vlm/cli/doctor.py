"""`python -m vlm doctor`: what this installation has, and what is wrong with it."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

from ..doctor.examination import Examination, examine
from ..doctor.families import check_family
from ..doctor.findings import Findings
from .output import say, say_facts
from .progress import busy, quiet_transformers

GB = 2**30
WIDTH = 100
DESCRIPTION = """\
Looks at this installation: versions, the self-check of every family of models on its toy model, the
devices and the dtypes they compute in, the models on disk, ComfyUI, and free room. Says in a
sentence what is wrong and how to fix it. Exit status 1 if anything is. Nothing is changed.
"""


def add_parser(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="what this installation has, and what is wrong with it",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "places",
        nargs="*",
        type=Path,
        metavar="MODEL",
        help="models, or folders of models, to look at; those in Hugging Face's cache and in "
        "ComfyUI's model folders are looked at anyway",
    )
    parser.add_argument(
        "--comfyui",
        type=Path,
        metavar="FOLDER",
        help="ComfyUI's folder (default: COMFYUI_PATH, the one around this pack, ~/comfy/ComfyUI)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.add_argument(
        "--no-self-check", action="store_true", help="do not run the families' toy models"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; 1 where something is wrong."""
    quiet_transformers()
    check = None if options.no_self_check else check_family
    with busy("Examining"):
        examination = examine(options.places, options.comfyui, check=check)
    if options.json:
        say(json.dumps(examination.as_data(), indent=2))
    else:
        _say_all(examination)
    return 0 if examination.healthy else 1


def _say_all(examination: Examination) -> None:
    parts = examination.parts
    rows = [
        *_rows("versions", parts, _version),
        *_rows("families", parts, _family),
        *_rows("devices", parts, _device),
        *_rows("models", parts, _model),
        *_rows("comfyui", parts, _comfyui),
        *_rows("disks", parts, _disk),
    ]
    say_facts(rows)
    for remark in examination.remarks:
        say()
        word = "PROBLEM" if remark.problem else "note"
        say(textwrap.fill(f"{word}: {remark.where}: {remark.text}", WIDTH, break_on_hyphens=False))
    say()
    problems = sum(remark.problem for remark in examination.remarks)
    say(f"Problems: {problems}, see above." if problems else "Nothing is wrong.")


def _rows(name: str, parts: dict[str, Findings], line: Any) -> list[tuple[str, str]]:
    """The facts of a part, its name before the first."""
    lines = [line(fact) for fact in parts[name].facts] or ["none"]
    return [(name if not index else "", text) for index, text in enumerate(lines)]


def _version(fact: dict[str, Any]) -> str:
    tested = {True: " (tested)", False: " (not tested)", None: ""}[fact.get("tested")]
    return f"{fact['name']} {fact['version'] or 'missing'}{tested}"


def _family(fact: dict[str, Any]) -> str:
    state = "works" if fact["works"] else "DOES NOT WORK"
    return f"{fact['title']} ({fact['family']}): {state}, {fact['seconds']:.1f} s"


def _device(fact: dict[str, Any]) -> str:
    works = ", ".join(name for name, right in fact["dtypes"].items() if right)
    lacks = ", ".join(name for name, right in fact["dtypes"].items() if not right)
    return f"{fact['device']} ({fact['name']}): {works}" + (f"; not {lacks}" if lacks else "")


def _model(fact: dict[str, Any]) -> str:
    size = f"{fact['bytes'] / GB:.1f} GB" if fact["bytes"] > GB / 10 else f"{fact['bytes']} bytes"
    what = fact["family"] or "no family of ours"
    if not fact["complete"]:
        return f"{fact['path']}: {what}, {size}, CANNOT BE LOADED"
    sizes = f"{fact['decoder_layers']} layers, {fact['width']} wide, {fact['dtype']}"
    return f"{fact['path']}: {what}, {size}, {sizes}, complete"


def _comfyui(fact: dict[str, Any]) -> str:
    has = ", ".join(f"{name} {there or 'missing'}" for name, there in fact["packages"].items())
    return f"{fact['path']}: {fact['version']}; its Python {fact['python']} has {has or 'nothing'}"


def _disk(fact: dict[str, Any]) -> str:
    return f"{fact['path']}: {fact['free_bytes'] / GB:.1f} GB free"
