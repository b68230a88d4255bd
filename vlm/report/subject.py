"""What a report is about: one layer's tokens with their map, and the pictures that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ..pictures.picture_inputs import open_frames, to_pictures
from ..running.hidden_states import HiddenStates
from ..token_map import new_map
from ..tokens.select import select_layers
from ..tokens.tokens import Tokens
from .measures import counted_roles, find_sinks, picture_grid

MOST_VIEWS = 4  # pictures and frames that get a row of their own


@dataclass(frozen=True)
class Subject:
    """Tokens that are looked at.

    Attributes:
        rows: [N, D] float32 on the CPU; of a batch the first.
        token_map: Of the N tokens; of unknown roles where there is none.
        known: Whether there is a map.
        batch: B of what came in.
        states: The hidden states they are of; None for tokens.
        layer: Their layer index from 0; None for tokens.
        norms: [N].
        sinks: Bool [N].
    """

    rows: torch.Tensor
    token_map: dict
    known: bool
    batch: int
    states: HiddenStates | None
    layer: int | None
    norms: torch.Tensor
    sinks: torch.Tensor

    @property
    def roles(self) -> list[str]:
        """Of the N tokens."""
        return self.token_map["role"]

    @property
    def counts(self) -> dict[str, int]:
        """Tokens by role."""
        return counted_roles(self.token_map, len(self.rows))


@dataclass(frozen=True)
class View:
    """A picture, or a frame of a video, with its grid of tokens.

    Attributes:
        image: Image number.
        frame: From 0.
        frames: Frames of that image; 1 = a still picture.
        grid: [rows, columns] index of each cell's token, -1 = none.
        thumbnail: Tokens of the whole picture beside its tiles.
        picture: What it shows; None = not given.
    """

    image: int
    frame: int
    frames: int
    grid: torch.Tensor
    thumbnail: int
    picture: Image.Image | None

    @property
    def name(self) -> str:
        """`image 0`, or of a video, its frames counted from 1, `frame 3 of 8`."""
        if self.frames == 1:
            return f"image {self.image}"
        return f"frame {self.frame + 1} of {self.frames}"


def look_at(tokens: HiddenStates | Tokens, layer: int | None = None) -> Subject:
    """One layer's tokens, without those that the target never sees; nothing is run.

    Args:
        tokens: Hidden states, or tokens.
        layer: Of hidden states, in -L..L-1; None = the target's if it is held, else the deepest
            held.

    Raises:
        ValueError: No layer is held, or not this one; a layer of tokens; NaN or Inf.
    """
    if isinstance(tokens, HiddenStates):
        states: HiddenStates | None = tokens
        layer = _held_layer(tokens, layer)
        shown = select_layers(tokens, layer)
    elif layer is None:
        states, shown = None, tokens
    else:
        raise ValueError(
            f"Layer {layer} was asked for, and these tokens are of one layer already. Give hidden "
            "states, or leave `layer` out."
        )
    rows = shown.states[0].to("cpu", torch.float32)
    wrong = (~torch.isfinite(rows).all(dim=1)).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {len(rows)} tokens hold NaN or Inf, the first is token {wrong[0]}. "
            "Load the VLM in bfloat16 or float32 and encode again."
        )
    known = shown.token_map is not None
    token_map = shown.token_map or new_map(["unknown"] * shown.n)
    norms, sinks = rows.norm(dim=1), find_sinks(rows)
    return Subject(rows, token_map, known, shown.batch, states, layer, norms, sinks)


def _held_layer(states: HiddenStates, layer: int | None) -> int:
    held, last = states.held, states.num_layers - 1
    if not held:
        raise ValueError(
            "No layer of these hidden states has run, so there is nothing to look at. Encode with "
            "`depth`, such as -8."
        )
    if layer is None:
        wanted = [k % states.num_layers for k in states.target.layers_for(states.has_images) or ()]
        return next((k for k in reversed(wanted) if k in held), held[-1])
    if not -states.num_layers <= layer <= last:
        raise ValueError(
            f"Layer {layer} does not exist: this model has the layers 0 to {last} (or "
            f"-{states.num_layers} to -1), where 0 are the embeddings. Set `layer` to one of these."
        )
    layer %= states.num_layers
    if layer not in held:
        raise ValueError(
            f"Layer {layer} is not held, and looking at tokens never runs the VLM. Held are "
            f"{_in_ranges(held)}: choose one of these, or set `depth` to {layer} and encode again."
        )
    return layer


def _in_ranges(numbers: Sequence[int]) -> str:
    """`0 to 20, 28`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join(" to ".join(map(str, part)) for part in parts)


def find_views(token_map: dict, images: Any = None, video: Any = None) -> list[View]:
    """The pictures whose tokens are there, a video as its first and its last frame.

    Args:
        token_map: Of the sequence.
        images: The pictures by their numbers, as `VLM.encode` takes them.
        video: Frames of the video, which stands after the pictures.
    """
    pictures = to_pictures(images)
    here = {
        image
        for role, image in zip(token_map["role"], token_map["image"], strict=True)
        if role == "image"
    }
    views = []
    for grid in token_map["grids"]:
        number, frames = grid["image"], grid["frames"]
        if number not in here:
            continue
        for frame in sorted({0, frames - 1}):
            places = picture_grid(token_map, number, frame)
            shown = pictures[number] if number < len(pictures) else None
            if shown is None and video is not None:
                shown = _frame(video, frame / max(frames - 1, 1))
            views.append(View(number, frame, frames, places, _thumbnail(token_map, number), shown))
    return views


def _frame(video: Any, at: float) -> Image.Image:
    """A frame of a video, `at` from 0 = the first to 1 = the last."""
    count, read = open_frames(video)
    if not count:
        raise ValueError("The video has no frame. Give the frames that were encoded.")
    (frame,) = read([round(at * (count - 1))])
    return frame


def _thumbnail(token_map: dict, image: int) -> int:
    columns = (token_map[key] for key in ("role", "image", "tile"))
    return sum(
        role == "image" and number == image and tile < 0
        for role, number, tile in zip(*columns, strict=True)
    )
