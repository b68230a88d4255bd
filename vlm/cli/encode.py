"""`python -m vlm encode`: pictures and words to a conditioning file, or many to many."""

from __future__ import annotations

import argparse
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..batch.recipe import Inputs, Made, Recipe, make, notes_of, read_inputs
from ..batch.turns import read_turns_file
from ..conditioning.check import Needs, check
from ..conditioning.entries import Entry
from ..conditioning.file import save_conditioning
from ..model import VLM
from ..pictures.media_files import read_text
from ..prompts.system_file import read_system_prompt
from ..report.inspection import Inspection, inspect_tokens
from ..token_map import roles_in_words
from ..tokens.blend import resolve_method
from ..tokens.normalize import resolve_mode
from ..tokens.spread import std_of_all
from .encode_many import run_many
from .encode_options import add_parser as add_options
from .model import load_model
from .output import say, say_facts
from .progress import ProgressHost, busy, quiet_transformers

TOY = "This is the built-in toy model with random weights: the numbers of this report mean nothing."


def add_parser(commands: Any) -> None:
    """Adds the command to the parser."""
    add_options(commands).set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; its exit status."""
    recipe = read_recipe(options)
    if options.jobs or options.folder:
        if options.report is not None:
            raise ValueError("--report is of one prompt, not of --jobs or --folder. Drop it.")
        return run_many(options, recipe)
    inputs = check_and_read(options, recipe)
    start = time.perf_counter()
    with busy("Loading the model"):
        quiet_transformers()
        host = ProgressHost()
        model = load_model(options, host=host, prefix_cache_mb=0)
    loaded = time.perf_counter()
    try:
        made = make(model, recipe, inputs)
    finally:
        host.close()
    entries = [Entry(made.tokens, {})]
    save_conditioning(entries, options.out, notes_of(recipe, model.name, options.dtype))
    if options.report is not None:
        with busy("Drawing the report"):
            report(model, recipe, inputs, made).save(options.report)
    seconds = f"{time.perf_counter() - loaded:.1f} (and {loaded - start:.1f} to load the model)"
    shape = " x ".join(map(str, made.tokens.states.shape))
    written = f"{options.out}  {shape} float32"
    facts = [*facts_of(model, recipe, made), ("seconds", seconds), ("written", written)]
    say_facts([*facts, *([("report", options.report)] if options.report else [])])
    for finding in check(entries, Needs.of(options.target)):
        say(f"note: {finding.text}")
    return 0


def read_recipe(options: argparse.Namespace) -> Recipe:
    """The options of the prompt, checked.

    Raises:
        ValueError: A value out of its range, a text or system prompt file that is not UTF-8, a
            conversation that is none.
        FileNotFoundError: No such file.
    """
    given = {field.name: getattr(options, field.name) for field in fields(Recipe)}
    given["text"] = read_text(options.text_file) if options.text_file else options.text or ""
    if options.system_file:
        given["system"] = read_system_prompt(options.system_file)
    place = Path(options.conversation or "").parent
    turns = read_turns_file(options.conversation) if options.conversation else ()
    given["conversation"] = tuple(turn.at(place) for turn in turns)
    return Recipe(**{**given, "image": tuple(options.image), "audio": tuple(options.audio)})


def check_and_read(options: argparse.Namespace, recipe: Recipe) -> Inputs:
    """Checks the places and reads the files, so that nothing large is loaded in vain.

    Raises:
        ValueError: Nothing to encode, a file that cannot be read, an option of another way.
        FileNotFoundError: A file or folder that is not there.
    """
    recipe.need_prompt()
    for name in ("shard_size", "worker", "retry", "root", "allow_outside"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} belongs to --jobs or --folder. Drop it.")
    out = Path(options.out)
    if out.suffix != ".safetensors":
        raise ValueError(f"--out is {out.name}, expected a name that ends in .safetensors.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"The folder {out.parent} for --out does not exist. Make it first.")
    if options.report is not None:
        _check_report(Path(options.report))
        if any(turn.video for turn in recipe.conversation):
            raise ValueError("--report draws no video of a conversation. Drop it, or that video.")
    return read_inputs(recipe)


def _check_report(file: Path) -> None:
    if file.suffix.lower() != ".png":
        raise ValueError(f"--report is {file.name}, expected a name that ends in .png.")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"The folder {file.parent} for --report does not exist. Make it.")


def report(model: VLM, recipe: Recipe, inputs: Inputs, made: Made) -> Inspection:
    """What the prompt's hidden states look like, in the deepest layer that was taken."""
    notes = [TOY] if model.name == "tiny" else []
    kept = f"Kept are {made.kept.n} of {len(made.states.prompt.ids)} tokens ({recipe.keep})"
    if made.normalized is not None:
        mode = resolve_mode(made.kept, recipe.normalize)
        kept += f"; the dimensions below are theirs, before and after normalising ({mode})"
    if recipe.alpha is not None:
        kept += f"; then they were blended at alpha {recipe.alpha:g}"
    turns = inputs.conversation.turns if inputs.conversation else ()
    before = [picture for turn in turns for picture in turn.images or ()]
    return inspect_tokens(
        made.states,
        [*before, *inputs.images],
        inputs.video,
        layer=max(made.choice.indices),
        stats=made.stats,
        normalized=None if made.normalized is None else (made.kept, made.normalized),
        title=f"{model.name}  ·  target {made.states.target.title}",
        notes=[*notes, f"{kept}."],
    )


def facts_of(model: VLM, recipe: Recipe, made: Made) -> list[tuple[str, str]]:
    """What to say of a conditioning and the way to it."""
    states, last = made.states, made.states.num_layers - 1
    layers = ", ".join(map(str, made.choice.indices))
    facts = [
        ("model", f"{model.name}: {model.family.title}, {last} decoder layers"),
        ("prompt", roles_in_words(states.token_map)),
        ("layers", f"{layers} of 0..{last} ({made.choice.combine})"),
        ("kept", f"{made.kept.n} of {len(states.prompt.ids)} tokens"),
    ]
    if made.reference is not None:
        facts.append(("reference", f"{made.reference.n} tokens of the text alone"))
    if made.normalized is not None and made.stats is not None:
        mode = resolve_mode(made.kept, recipe.normalize)
        spreads = (std_of_all(one.states) for one in (made.kept, made.normalized))
        before, after = (float(spread.mean()) for spread in spreads)
        said = f"std {before:.4g} to {after:.4g}, the reference has {made.stats.global_std:.4g}"
        facts.append(("normalised", f"{mode}: {said}"))
    if recipe.alpha is not None and made.reference is not None:
        mixed = made.kept if made.normalized is None else made.normalized
        method = resolve_method(mixed, made.reference, recipe.blend)
        said = f"{method}, alpha {recipe.alpha:g}: {made.tokens.n} tokens"
        facts.append(("blended", said))
    return facts
