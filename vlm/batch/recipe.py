"""How one prompt becomes a conditioning: what `python -m vlm encode` takes, and the way itself."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..finite import LOUD, need_finite
from ..model import VLM
from ..pictures.media_files import read_picture, read_video
from ..prompts.conversation import Conversation
from ..prompts.markers import check_names, rename
from ..prompts.templates import TEMPLATES, find_template
from ..quoted import told
from ..running.hidden_states import HiddenStates
from ..sounds.sound_files import read_sound
from ..targets import TARGETS
from ..tokens.alphas import SCHEDULES
from ..tokens.blend import METHODS, blend
from ..tokens.filter import KEEP_PRESETS, filter_tokens, keep_roles
from ..tokens.layer_spec import LayerChoice, parse_layers
from ..tokens.normalize import MODES, normalize
from ..tokens.select import COMBINES, choose_layers, select_layers
from ..tokens.stats import Stats, load_stats, measure_stats
from ..tokens.tokens import Tokens
from .turns import Said, check_turn_names, read_conversation

CHOICES: dict[str, tuple[str, ...]] = {
    "target": tuple(TARGETS),
    "template": tuple(TEMPLATES),
    "combine": COMBINES,
    "normalize": ("none", *MODES),
    "blend": METHODS,
    "schedule": SCHEDULES,
}
MOST_LAYERS = 10_000  # more than any model has: only the spelling can be checked before it loads


@dataclass(frozen=True)
class Recipe:
    """One prompt and everything that decides its conditioning; fields are the options' names.

    Attributes:
        text: The prompt.
        image: Picture files in order.
        video: Folder of frames or animation, or None.
        fps: Frames per second of the video; None = as it says, 24 for a folder.
        target, template, system, edit, min_pixels, max_pixels: As in `VLM.encode`.
        layers: As `parse_layers` reads them, or `auto`.
        combine: As in `select_layers`.
        no_final_norm: The last layer without the final norm.
        keep: A preset, or roles with commas between.
        normalize: A mode of `normalize`, or `none`.
        reference: Words of the text-only reference; None = the prompt's.
        reference_layers: Layers of the reference.
        stats: File of saved statistics to normalise against instead.
        clip_sigma, weight: As in `normalize`.
        alpha: The picture's share in the blend; None = no blend.
        blend, schedule: As in `blend`.
        placed: Whether `<image1>` in the words stands for the first picture.
        conversation: Turns before the prompt.
        audio: Sound files, after the pictures and the video.
        audio_in_video: Whether the first of them is the video's own.
    """

    text: str = ""
    image: tuple[str, ...] = ()
    video: str | None = None
    fps: float | None = None
    target: str = "z-image"
    template: str | None = None
    system: str | None = None
    edit: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    layers: str = "auto"
    combine: str | None = None
    no_final_norm: bool = False
    keep: str = "text"
    normalize: str = "none"
    reference: str | None = None
    reference_layers: str = "auto"
    stats: str | None = None
    clip_sigma: float = 3.0
    weight: float = 0.5
    alpha: float | None = None
    blend: str = "auto"
    schedule: str = "constant"
    placed: bool = False
    conversation: tuple[Said, ...] = ()
    audio: tuple[str, ...] = ()
    audio_in_video: bool = False

    def __post_init__(self) -> None:
        """Checks every value that can be checked without the model.

        Raises:
            ValueError: A value that is out of its range or means nothing.
        """
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ValueError(
                    f"--{name} is {told(value)}, expected one of {', '.join(choices)}."
                )
        for name in ("fps", "min_pixels", "max_pixels"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{option(name)} is {value}, expected a number above 0.")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise ValueError(f"--alpha is the picture's share, 0 to 1; this is {self.alpha}.")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"--weight is the share of per_dim, 0 to 1; this is {self.weight}.")
        if not 0 <= self.clip_sigma < math.inf:
            raise ValueError(f"--clip-sigma is {self.clip_sigma}, expected 0 (no clip) or more.")
        if not isinstance(self.conversation, tuple):
            raise ValueError(
                f"--conversation is {told(self.conversation)}, expected a list of turns."
            )
        _ = self.roles
        _check_spelling(self.layers, self.combine)
        _check_spelling(self.reference_layers, self.combine)

    @property
    def roles(self) -> str | tuple[str, ...]:
        """`keep` as the token filter reads it."""
        if self.keep in KEEP_PRESETS:
            return self.keep
        return keep_roles([role.strip() for role in self.keep.split(",")])

    @property
    def final_norm(self) -> bool | None:
        """As `select_layers` reads it: None = as the target does."""
        return False if self.no_final_norm else None

    @property
    def names_pictures(self) -> bool:
        """Whether `<image1>` in the words stands for a picture: some templates write it."""
        template = self.template or TARGETS[self.target].template
        return self.placed and not find_template(template).writes_markers

    def need_prompt(self) -> None:
        """Refuses a recipe of nothing, and names of pictures that are not there.

        Raises:
            ValueError: Neither text nor pictures, video or sounds; a name like `<image9>` without
                its picture.
        """
        if not (self.text or self.image or self.video or self.audio):
            raise ValueError(
                "There is nothing to encode. Give --text, --image, --video or --audio."
            )
        if self.names_pictures:
            check_names(self.text, len(self.image))
            check_turn_names(self.conversation)


@dataclass(frozen=True)
class Inputs:
    """What the files of a recipe hold.

    Attributes:
        images: Pictures in order.
        video: Frames, or None.
        fps: Frames per second of the video.
        stats: Saved reference statistics, or None.
        conversation: Turns before the prompt, or None.
        audio: Samples [C, T] of each sound and their rate, or None.
    """

    images: list[Image.Image]
    video: Sequence[Image.Image] | None = None
    fps: float = 24.0
    stats: Stats | None = None
    conversation: Conversation | None = None
    audio: list[tuple[np.ndarray, int]] | None = None


@dataclass(frozen=True)
class Made:
    """A conditioning, and what it came from.

    Attributes:
        tokens: The conditioning, float32 [1, N, D] on the CPU.
        states: Hidden states of the prompt.
        choice: Layers that were taken.
        kept: Tokens after the filter, float32.
        normalized: Tokens after normalising; None where they were not.
        reference: The text-only reference; None where none was needed.
        stats: What was normalised against; None where nothing was.
    """

    tokens: Tokens
    states: HiddenStates
    choice: LayerChoice
    kept: Tokens
    normalized: Tokens | None
    reference: Tokens | None
    stats: Stats | None


def option(name: str) -> str:
    """A field as the command line spells it."""
    return "--" + name.replace("_", "-")


def read_inputs(recipe: Recipe) -> Inputs:
    """Reads the files of a recipe.

    Raises:
        FileNotFoundError: A file that is not there.
        ValueError: A file that cannot be read.
    """
    images = [read_picture(file) for file in recipe.image]
    video, fps = read_video(recipe.video, recipe.fps) if recipe.video else (None, 24.0)
    stats = load_stats(recipe.stats) if recipe.stats else None
    audio = [read_sound(file) for file in recipe.audio] or None
    return Inputs(images, video, fps, stats, read_conversation(recipe.conversation), audio)


def make(model: VLM, recipe: Recipe, inputs: Inputs) -> Made:
    """Encodes, selects, filters, normalises and blends.

    Source: the Qwen3-VL x Z-Image research.

    Raises:
        ValueError: A layer that the model lacks, nothing left by the filter, NaN or Inf, and
            whatever else only the model's answer shows.
    """
    states = model.encode(
        recipe.text,
        inputs.images or None,
        video=inputs.video,
        fps=inputs.fps,
        min_pixels=recipe.min_pixels,
        max_pixels=recipe.max_pixels,
        target=recipe.target,
        template=recipe.template,
        system=recipe.system,
        edit=recipe.edit,
        placed=recipe.placed,
        conversation=inputs.conversation,
        audio=inputs.audio,
        audio_in_video=recipe.audio_in_video,
    )
    choice = choose_layers(states, recipe.layers, recipe.combine, recipe.final_norm)
    tokens = gate(states, recipe.layers, recipe.combine, recipe.final_norm)
    kept = made = filter_tokens(tokens, keep=recipe.roles)
    reference = normalized = stats = None
    measures = recipe.normalize != "none" and inputs.stats is None
    if recipe.alpha is not None or measures:
        reference = encode_reference(model, recipe)
    if recipe.normalize != "none":
        stats = inputs.stats
    if reference is not None and measures:
        stats = measure_stats(reference)
    if stats is not None:
        made = normalized = normalize(
            kept, stats, recipe.normalize, clip_sigma=recipe.clip_sigma, weight=recipe.weight
        )
    if recipe.alpha is not None and reference is not None:
        made = blend(made, reference, recipe.alpha, recipe.blend, recipe.schedule)
    need_finite(made.states, "What is made here", LOUD)
    return Made(made, states, choice, kept, normalized, reference, stats)


def gate(states: HiddenStates, layers: str, combine: str | None, final_norm: bool | None) -> Tokens:
    """The chosen layers of what the target sees, in float32 as every conditioning is."""
    tokens = select_layers(states, layers, combine, final_norm)
    return replace(tokens, states=tokens.states.to("cpu", torch.float32))


def encode_reference(model: VLM, recipe: Recipe) -> Tokens:
    """The text alone, as the target's own encoder would see it: no names of pictures in it."""
    words = recipe.text if recipe.reference is None else recipe.reference
    if recipe.names_pictures:
        words = rename(words, {})
    states = model.encode(
        words, target=recipe.target, template=recipe.template, system=recipe.system
    )
    combine = None if recipe.reference_layers == "auto" else recipe.combine
    return gate(states, recipe.reference_layers, combine, recipe.final_norm)


def notes_of(recipe: Recipe, model: str, dtype: str) -> dict[str, Any]:
    """Notes for the file: how it was made, without places on this machine.

    Args:
        recipe: What was made.
        model: The model's name.
        dtype: As it was asked for.
    """
    notes = facts_of(replace(recipe, conversation=bare_turns(recipe)))
    images = [Path(file).name for file in notes.pop("image")]
    if "audio" in notes:
        notes["audio"] = [Path(file).name for file in notes["audio"]]
    for key in ("video", "stats"):
        notes[key] = notes[key] and Path(notes[key]).name
    return {**notes, "dtype": dtype, "model": model, "images": images}


def facts_of(recipe: Recipe) -> dict[str, Any]:
    """All that a recipe says; what came later than the first files, only where it says something.

    So a digest stays what it was for recipes that do without.
    """
    facts = asdict(recipe)
    for turn in facts["conversation"]:
        for key in ("audio", "audio_in_video"):
            if not turn[key]:
                del turn[key]
    later = ("placed", "conversation", "audio", "audio_in_video")
    return {key: value for key, value in facts.items() if value or key not in later}


def bare_turns(recipe: Recipe) -> tuple[Said, ...]:
    """The turns of a recipe without places on this machine."""
    return tuple(turn.without_places() for turn in recipe.conversation)


@functools.lru_cache
def _check_spelling(layers: str, combine: str | None) -> None:
    if layers.strip() != "auto":
        parse_layers(layers, MOST_LAYERS, combine)
