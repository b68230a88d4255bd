"""The features of a prompt's pictures that a run puts where their tokens stand."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..logger import LOG
from ..pictures.preprocessor import VisionInput
from .backbone import VISION
from .engine import Engine
from .layer_store import LayerStore
from .prefix_cache import Prefix, VisionFeatures


class PictureFeatures:
    """What the vision tower makes of the pictures that a run looks at, each at most once.

    Attributes:
        places: Where tokens stand whose embeddings are a picture's features, muted pictures left
            out.
        looked_at: The pictures whose features the run needs, in the order in which they stand.
    """

    def __init__(
        self,
        engine: Engine,
        store: LayerStore,
        layers: tuple[int | None, int],
        known: Prefix | None,
    ):
        """Finds the pictures; nothing runs yet.

        Args:
            engine: The model.
            store: The prompt, and the version of the weights that runs.
            layers: The one from which the run goes on, None = from the embeddings; where it stops.
            known: The beginning that does not run again; None = all runs.
        """
        self._engine, self._backbone = engine, engine.backbone
        self._prompt, self._keyframe = store.prompt, store.keyframe
        self._features: tuple[torch.Tensor, list[torch.Tensor]] | None = None
        self.places = self._seen_places()
        self.looked_at = self._find_looked_at(*layers, known)

    def here(
        self, level: int, offset: int, device: torch.device
    ) -> tuple[list[int], torch.Tensor | None]:
        """Features (level 0) or DeepStack features (level 1, ...) of the tokens that run.

        Args:
            level: Which.
            offset: The first of these tokens.
            device: Where they are wanted.

        Returns:
            Their places among the tokens that run, and [n, D]; None = no picture is among them, or
            none was needed.
        """
        here = [i for i, place in enumerate(self.places) if place >= offset]
        if not here or self._features is None:
            return [], None
        features, deepstack = self._features
        chosen = features if level == 0 else deepstack[level - 1]
        places = [self.places[i] - offset for i in here]
        return places, chosen[len(chosen) - len(here) :].to(device)

    def make(self, bring: Callable[[str], object], step: Callable[[], None]) -> None:
        """Makes features and DeepStack's of all pictures; the tower runs for those not known.

        Args:
            bring: Has the host bring a part of the weights.
            step: Is called when a picture has been looked at.
        """
        keys = [f"{self._keyframe}:{each.digest().hex()}" for each in self.looked_at]
        known = {key: self._engine.prefix_cache.get_features(key) for key in keys}
        if None in known.values():
            bring(VISION)
        made: dict[str, VisionFeatures] = {}
        for number, key in enumerate(keys):
            made[key] = made.get(key) or known[key] or self._encode(number, key)
            step()
        device = self._backbone.device_of(VISION)
        seen = [made[key].to(device) for key in keys]
        levels = zip(*(each.deepstack for each in seen), strict=True)
        merged = torch.cat([each.merged for each in seen])
        self._features = merged, [torch.cat(level) for level in levels]

    def _encode(self, number: int, key: str) -> VisionFeatures:
        """Runs the vision tower on a picture, and keeps what it made of it."""
        patches = self.looked_at[number].patches()
        device = self._backbone.device_of(VISION)
        pixels = patches.normalised(device, self._backbone.dtype)
        merged, deepstack = self._backbone.encode_vision(pixels, patches.grid)
        LOG.debug("%s: vision tower, grid %s, on %s", self._engine.name, patches.grid, device)
        features = VisionFeatures(merged, tuple(deepstack))
        cache = self._engine.prefix_cache
        if features.bytes <= cache.limit:
            cache.put_features(key, features.to(self._engine.host.cache_device, copy=True))
        return features

    def _seen_places(self) -> list[int]:
        """By their ids: beside the tokens of its grid these are markers that take a feature."""
        prompt = self._prompt
        muted = {n for n, vision_input in enumerate(prompt.vision_inputs) if vision_input.muted}
        pairs = zip(prompt.ids, prompt.token_map["image"], strict=True)
        return [
            place
            for place, (token, number) in enumerate(pairs)
            if token in prompt.feature_ids and number >= 0 and number not in muted
        ]

    def _find_looked_at(
        self, start: int | None, end: int, known: Prefix | None
    ) -> list[VisionInput]:
        begin, added = start or 0, min(self._backbone.num_deepstack, end)
        edge = 0 if known is None else known.length
        needed = [place for place in self.places if place >= edge]
        if start is not None and begin >= added:
            needed = []
        if known is not None and max(begin, known.depth) < added:
            needed = self.places  # DeepStack is still to come
        numbers = self._prompt.token_map["image"]
        return [self._prompt.vision_inputs[n] for n in dict.fromkeys(numbers[at] for at in needed)]
