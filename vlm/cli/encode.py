"""`python -m vlm encode`: pictures and words to a conditioning file."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..blend import blend
from ..check import Needs, check
from ..conditioning_file import save_conditioning
from ..entries import Entry
from ..filter import KEEP_PRESETS, filter_tokens, keep_roles
from ..hidden_states import HiddenStates
from ..load import load
from ..model import VLM
from ..normalize import normalize, resolve_mode
from ..select import choose_layers, select_layers
from ..spread import std_of_all
from ..stats import Stats, load_stats, measure_stats
from ..tokens import Tokens
from .encode_options import add_parser as add_options
from .inputs import read_picture, read_text, read_video
from .output import roles_of, say, say_facts
from .progress import ProgressHost, busy, quiet_transformers


def add_parser(commands: Any) -> None:
    """Adds the command to the parser."""
    add_options(commands).set_defaults(run=run)


@dataclass
class Inputs:
    """What the files hold, read before the model is.

    Attributes:
        text: The prompt.
        keep: Preset or roles.
        images: Pictures in order.
        video: Frames, or None.
        fps: Frames per second of the video.
        stats: Saved reference statistics, or None.
    """

    text: str
    keep: str | tuple[str, ...]
    images: list = field(default_factory=list)
    video: list | None = None
    fps: float = 24.0
    stats: Stats | None = None


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    inputs = read_inputs(options)
    start = time.perf_counter()
    with busy("Loading the model"):
        quiet_transformers()
        host = ProgressHost()
        device = pick_device(options.device)
        model = load(options.model, device, options.dtype, host=host, prefix_cache_mb=0)
    loaded = time.perf_counter()
    try:
        tokens, facts = make(model, inputs, options)
    finally:
        host.close()
    save_conditioning([Entry(tokens, {})], options.out, about(model, inputs, options))
    seconds = f"{time.perf_counter() - loaded:.1f} (and {loaded - start:.1f} to load the model)"
    shape = " x ".join(map(str, tokens.states.shape))
    say_facts([*facts, ("seconds", seconds), ("written", f"{options.out}  {shape} float32")])
    for finding in check([Entry(tokens, {})], Needs.of(options.target)):
        say(f"note: {finding.text}")


def read_inputs(options: argparse.Namespace) -> Inputs:
    """Reads files and checks values, so that nothing large is loaded in vain.

    Raises:
        ValueError: nothing to encode, a value out of its range, a file that cannot be read.
        FileNotFoundError: a file or folder that is not there.
    """
    text = read_text(options.text_file) if options.text_file else options.text or ""
    if not (text or options.image or options.video):
        raise ValueError("There is nothing to encode. Give --text, --image or --video.")
    keep = options.keep
    if keep not in KEEP_PRESETS:
        keep = keep_roles([role.strip() for role in keep.split(",")])
    if options.alpha is not None and not 0 <= options.alpha <= 1:
        raise ValueError(f"--alpha is the picture's share, 0 to 1; this is {options.alpha}.")
    out = Path(options.out)
    if out.suffix != ".safetensors":
        raise ValueError(f"--out is {out.name}, expected a name that ends in .safetensors.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"The folder {out.parent} for --out does not exist. Make it first.")
    inputs = Inputs(text, keep, [read_picture(file) for file in options.image])
    if options.video:
        inputs.video, inputs.fps = read_video(options.video, options.fps)
    if options.stats:
        inputs.stats = load_stats(options.stats)
    return inputs


def make(
    model: VLM, inputs: Inputs, options: argparse.Namespace
) -> tuple[Tokens, list[tuple[str, str]]]:
    """Encodes, selects, filters, normalises and blends; the tokens, and what to say of it."""
    states = model.encode(
        inputs.text,
        inputs.images or None,
        video=inputs.video,
        fps=inputs.fps,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
        target=options.target,
        template=options.template,
        system=options.system,
        edit=options.edit,
    )
    final_norm = False if options.no_final_norm else None
    choice = choose_layers(states, options.layers, options.combine, final_norm)
    tokens = gate(states, options.layers, options.combine, final_norm)
    kept = filter_tokens(tokens, keep=inputs.keep)
    layers = ", ".join(map(str, choice.indices))
    facts = [
        ("model", f"{model.name}: {model.family.title}, {states.num_layers - 1} decoder layers"),
        ("prompt", roles_of(states.token_map)),
        ("layers", f"{layers} of 0..{states.num_layers - 1} ({choice.combine})"),
        ("kept", f"{kept.n} of {len(states.prompt.ids)} tokens"),
    ]
    reference = None
    if options.alpha is not None or (options.normalize != "none" and inputs.stats is None):
        reference = encode_reference(model, inputs, options)
        facts.append(("reference", f"{reference.n} tokens of the text alone"))
    if options.normalize != "none":
        kept, said = normalise(kept, inputs.stats or measure_stats(reference), options)
        facts.append(("normalised", said))
    if options.alpha is not None:
        kept = blend(kept, reference, options.alpha, options.blend, options.schedule)
        facts.append(("blended", f"{options.blend}, alpha {options.alpha:g}: {kept.n} tokens"))
    return kept, facts


def gate(
    states: HiddenStates, layers: str, combine: str | None, final_norm: bool | None
) -> Tokens:
    """The chosen layers of what the target sees, in float32 as every conditioning is."""
    tokens = select_layers(states, layers, combine, final_norm)
    return Tokens(tokens.states.to("cpu", torch.float32), tokens.token_map)


def encode_reference(model: VLM, inputs: Inputs, options: argparse.Namespace) -> Tokens:
    """The text alone, as the target's own encoder would see it."""
    words = inputs.text if options.reference is None else options.reference
    states = model.encode(
        words, target=options.target, template=options.template, system=options.system
    )
    combine = None if options.reference_layers == "auto" else options.combine
    return gate(states, options.reference_layers, combine, False if options.no_final_norm else None)


def normalise(tokens: Tokens, stats: Stats, options: argparse.Namespace) -> tuple[Tokens, str]:
    """Normalised tokens, and what was done to their std."""
    done = normalize(
        tokens, stats, options.normalize, clip_sigma=options.clip_sigma, weight=options.weight
    )
    before, after = (float(std_of_all(one.states).mean()) for one in (tokens, done))
    mode = resolve_mode(tokens, options.normalize)
    said = f"{mode}: std {before:.4g} to {after:.4g}, the reference has {stats.global_std:.4g}"
    return done, said


def about(model: VLM, inputs: Inputs, options: argparse.Namespace) -> dict[str, Any]:
    """Notes for the file: how it was made."""
    skip = ("run", "out", "device", "text_file", "image", "model")
    notes = {key: value for key, value in vars(options).items() if key not in skip}
    names = [Path(file).name for file in options.image]
    return {**notes, "model": model.name, "text": inputs.text, "images": names}


def pick_device(name: str) -> torch.device:
    """A device by its name; `auto` = the graphics card if there is one.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"There is no device {name!r}. Use cpu, cuda or cuda:1.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ValueError(f"--device is {name}, and PyTorch finds {found} of these. Use cpu.")
    return device
