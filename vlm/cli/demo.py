"""`python -m vlm demo`: the main job on the built-in model and a picture drawn here."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..conditioning.entries import Entry
from ..conditioning.file import save_conditioning
from ..load import load
from ..model import VLM
from ..report.demo_picture import OTHER_PROMPT, PROMPT, draw_picture
from ..report.inspection import inspect_tokens
from ..report.measures import layer_curves
from ..running.hidden_states import HiddenStates
from ..token_map import roles_in_words
from ..tokens.blend import blend
from ..tokens.filter import filter_tokens
from ..tokens.normalize import normalize, resolve_mode
from ..tokens.select import select_layers
from ..tokens.spread import std_of_all
from ..tokens.stats import Stats, measure_stats
from ..tokens.tokens import Tokens
from .encode import TOY
from .output import say, say_facts, say_table, size_of
from .progress import ProgressHost, busy, quiet_transformers

TARGET, LAYER, ALPHA = "z-image", -8, 0.3

DESCRIPTION = """\
Runs the main job from end to end, without a download: draws a picture, encodes it with a prompt on
the built-in tiny model (random weights: the numbers show the way, not a meaning), takes layer -8,
splits text tokens and image tokens, brings both to the statistics of the text alone, blends them
with the text at alpha 0.3, and writes

  picture.png                     the picture
  conditioning.safetensors        from the text tokens: the research's recommended settings
  conditioning-image.safetensors  from the image tokens, normalised dimension by dimension
  report.png                      what the tokens are, how large, what normalising did; each panel
                                  says what good looks like
"""

EPILOG = """\
Example:
  python -m vlm demo --out demo
"""


@dataclass
class Side:
    """One kind of tokens on its way.

    Attributes:
        name: For the table.
        before: As they come out of the layer.
        after: Normalised.
        mode: How.
    """

    name: str
    before: Tokens
    after: Tokens
    mode: str


def add_parser(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="the whole way on a built-in model and a picture drawn here",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for what is written")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    picture = draw_picture()
    picture.save(out / "picture.png")
    with busy("Making the built-in model"):
        quiet_transformers()
        host = ProgressHost()
        model = load("tiny", dtype="float32", host=host)
    try:
        states, seconds = encode(model, picture)
        alone = model.encode(PROMPT, target=TARGET)
        text = select_layers(alone)  # the target's layer for text
    finally:
        host.close()
    stats = measure_stats(text, model.name, -2, [PROMPT])
    sides = [make_side(states, keep, stats) for keep in ("text", "image")]
    for side, file in zip(sides, ("conditioning", "conditioning-image"), strict=True):
        write(side, text, out / f"{file}.safetensors")
    with busy("Drawing the report"):
        report(out / "report.png", picture, states, alone, sides[1], stats)
    tell(states, alone, sides, stats, seconds, out)


def encode(model: VLM, picture: Image.Image) -> tuple[HiddenStates, dict[str, float]]:
    """The hidden states, and seconds with and without a prefix to reuse."""

    def once(prompt: str) -> tuple[HiddenStates, float]:
        start = time.perf_counter()
        states = model.encode(prompt, images=[picture], target=TARGET, depth=LAYER)
        return states, time.perf_counter() - start

    once(PROMPT)  # the first run of a process also sets up the libraries
    model.prefix_cache.clear()
    states, whole = once(PROMPT)
    other, again = once(OTHER_PROMPT)
    return states, {"whole": whole, "again": again, "reused": other.reused_tokens}


def make_side(states: HiddenStates, keep: str, stats: Stats) -> Side:
    """Filters and normalises one kind of tokens."""
    before = filter_tokens(select_layers(states, LAYER), keep=keep)
    return Side(keep, before, normalize(before, stats), resolve_mode(before, "auto"))


def write(side: Side, text: Tokens, file: Path) -> None:
    """Blends with the text and saves the conditioning."""
    blended = blend(side.after, text, ALPHA)
    notes: dict[str, Any] = {"model": "tiny", "target": TARGET, "layers": str(LAYER)}
    notes |= {"keep": side.name}
    notes |= {"normalize": side.mode, "alpha": ALPHA, "text": PROMPT, "images": ["picture.png"]}
    save_conditioning([Entry(blended, {})], file, notes)


def report(
    file: Path,
    picture: Image.Image,
    states: HiddenStates,
    alone: HiddenStates,
    side: Side,
    stats: Stats,
) -> None:
    """Draws the report on one side."""
    inspect_tokens(
        states,
        [picture],
        layer=LAYER,
        stats=stats,
        normalized=(side.before, side.after),
        alone=alone,
        title=f"built-in tiny Qwen3-VL, random weights  ·  target {states.target.title}",
        notes=[
            TOY,
            f"Compared with the statistics: the {side.name} tokens before and after normalising "
            f"({side.mode}).",
        ],
    ).save(file)


def tell(
    states: HiddenStates,
    alone: HiddenStates,
    sides: list[Side],
    stats: Stats,
    seconds: dict[str, float],
    out: Path,
) -> None:
    """Prints the table."""
    say(f'"{PROMPT}" and {out / "picture.png"}')
    say(roles_in_words(states.token_map))
    say()
    curves = layer_curves(states)
    held, norms = curves.layers, curves.norms
    reference = layer_curves(alone).norms["text"][:, 1].tolist()
    middle = {side.name: norms[side.name][:, 1].tolist() for side in sides}
    last = len(held) - 1
    rows = [
        ("", "text tokens", "image tokens", "text alone"),
        ("tokens", *(str(side.before.n) for side in sides), str(alone.token_map["n"])),
    ]
    for at in (0, last):
        values = [*(middle[side.name][at] for side in sides), reference[at]]
        rows.append((f"norm, layer {held[at]}", *(f"{value:.2f}" for value in values)))
    for when in ("before", "after"):
        spread = [f"{float(std_of_all(getattr(side, when).states)):.2f}" for side in sides]
        rows.append((f"std {when} normalising", *spread, f"{stats.global_std:.2f}"))
    rows.append(("normalised", *(side.mode for side in sides), "-"))
    say_table(rows)
    say()
    whole, again = seconds["whole"], seconds["again"]
    say_facts(
        [
            ("picture and prompt", f"{whole:.3f} s"),
            (
                "the same, new prompt",
                f"{again:.3f} s, {whole / again:.1f} times as fast: {seconds['reused']} tokens "
                "reused",
            ),
        ]
    )
    say()
    for file in sorted(out.iterdir()):
        if file.name.startswith(("conditioning", "picture", "report")):
            say(f"{file}  {size_of(file.stat().st_size)}")
