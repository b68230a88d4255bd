"""The frozen VLM: what a connector reads of a caption."""

from __future__ import annotations

import torch
from PIL import Image

from ..connectors.lap import every_third, parse_pooled
from ..model import VLM
from ..running.hidden_states import HiddenStates
from ..tokens.filter import keep_roles
from ..tokens.seen import seen_by_target
from ..tokens.select import select_layers
from .align import Span
from .recipe import CAPTION, PICTURE, TrainRecipe
from .student import Reading

AUTO, KEEP_ALL = "auto", "all"


class Reader:
    """Encodes captions as deep as the connector reads, and no deeper.

    Attributes:
        vlm: The model.
        layers: The layers read, as the connector's file says them.
        indices: The same, origin 0; None for one layer, or a combination of some.
    """

    def __init__(self, vlm: VLM, recipe: TrainRecipe):
        """Takes a model whose prefix cache is off.

        What a run reuses of a prefix decides the last bits of a state, and with them whether a run
        that was killed goes on to the same weights.

        Raises:
            ValueError: Layers that the model lacks, or that the connector cannot read.
        """
        self.vlm = vlm
        self._recipe = recipe
        self.indices: tuple[int, ...] | None = None
        count = vlm.num_layers
        if recipe.connector.startswith("alignnet"):
            if recipe.layers.strip() != AUTO:
                raise ValueError(
                    f"layers is {recipe.layers!r}, an AlignNet reads all of them. Set it to auto."
                )
            self.indices = tuple(range(count))
        elif recipe.connector == "lap":
            auto = recipe.layers.strip() == AUTO
            self.indices = every_third(count) if auto else parse_pooled(recipe.layers, count)
            if not self.indices:
                raise ValueError(f"{vlm.name} has too few layers for every third. Name them.")
        if recipe.tokens != KEEP_ALL and recipe.connector.startswith(("alignnet", "lap")):
            raise ValueError(
                f"tokens is {recipe.tokens}, a connector of the kind {recipe.connector} reads all "
                f"of them together. Set tokens to {KEEP_ALL}."
            )
        together = ",".join(map(str, self.indices or ()))
        self.layers = together if recipe.connector == "lap" else recipe.layers

    def __call__(self, caption: str, picture: Image.Image | None = None) -> Reading:
        """Reads a caption, a picture, or both, as the recipe says.

        Raises:
            ValueError: As `VLM.encode`; NaN or Inf in the states; no token of the kind to keep.
        """
        recipe = self._recipe
        h = self.vlm.encode(
            "" if recipe.sees == PICTURE else caption,
            images=None if recipe.sees == CAPTION else picture,
            target=recipe.target,
            template=recipe.template or None,
            keep_mb=0,
        )
        whole = h if recipe.connector.startswith("alignnet") else seen_by_target(h)
        if self.indices is None:
            layers = select_layers(h, recipe.layers).states[:, None]
        else:
            layers = whole.stretch(0, whole.n, self.indices)
        real = torch.tensor([[role != "pad" for role in whole.token_map["role"]]])
        dropped = h.dropped if whole is h else 0
        ids, spans = h.prompt.ids[h.dropped :], spans_of(self.vlm, h, caption)
        reading = Reading(layers, real, dropped, ids, spans)
        return reading if recipe.tokens == KEEP_ALL else self._kept(reading, whole)

    def _kept(self, reading: Reading, whole: HiddenStates) -> Reading:
        """The tokens of the roles that the connector is trained on."""
        roles = keep_roles(self._recipe.tokens)
        at = [place for place, role in enumerate(whole.token_map["role"]) if role in roles]
        if not at:
            raise ValueError(
                f"The prompt has no token of the kind {self._recipe.tokens} (tokens). Set that to "
                "all, or sees to what has them."
            )
        ids = tuple(reading.ids[place] for place in at)
        spans = tuple(reading.spans[place] for place in at)
        return Reading(reading.layers[:, :, at], reading.real[:, at], 0, ids, spans)


def spans_of(vlm: VLM, h: HiddenStates, caption: str) -> tuple[Span, ...]:
    """Characters of the caption that each token stands for which the target sees.

    Tokens of the template stand for none, and so do all where the template has letters of its own
    in one token with the caption's.
    """
    ids, offsets = vlm.tokenizer.split(caption)
    roles = h.token_map["role"]
    typed = [at for at, role in enumerate(roles) if role == "text"]
    spans: list[Span] = [(0, 0)] * h.n
    if [h.prompt.ids[at] for at in typed] == ids:
        for at, span in zip(typed, offsets, strict=True):
            spans[at] = span
    return tuple(spans[h.dropped :])
