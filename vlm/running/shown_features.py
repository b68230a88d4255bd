"""The features of a prompt's pictures and sounds that a run puts where their tokens stand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch

from ..logger import LOG
from ..pictures.preprocessor import VisionInput
from ..sounds.preprocessor import SoundInput
from ..token_map import audio_column
from .backbone import AUDIO, VISION
from .engine import Engine
from .layer_store import LayerStore
from .prefix_cache import Prefix, VisionFeatures

Shown = VisionInput | SoundInput


class ShownFeatures:
    """What the towers make of the pictures and sounds that a run needs, each at most once.

    Attributes:
        places: Where tokens stand whose embeddings are features, muted pictures left out.
        needed: The pictures and sounds whose features the run needs, in the order in which they
            stand.
    """

    def __init__(
        self,
        engine: Engine,
        store: LayerStore,
        layers: tuple[int | None, int],
        known: Prefix | None,
    ):
        """Finds pictures and sounds; nothing runs yet.

        Args:
            engine: The model.
            store: The prompt, and the version of the weights that runs.
            layers: The one from which the run goes on, None = from the embeddings; where it stops.
            known: The beginning that does not run again; None = all runs.
        """
        self._engine, self._backbone = engine, engine.backbone
        self._prompt, self._keyframe = store.prompt, store.keyframe
        self._features: tuple[torch.Tensor, list[torch.Tensor]] | None = None
        self.places = self._find_places()
        self._numbers = self._find_needed(*layers, known)
        self.needed: list[Shown] = [
            store.prompt.sounds[sound] if sound >= 0 else store.prompt.vision_inputs[image]
            for image, sound in self._numbers
        ]

    @property
    def parts(self) -> list[str]:
        """The parts of the model that the run may need for them."""
        return list(dict.fromkeys(map(_part, self.needed)))

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
        """Makes features and DeepStack's of all; a tower runs for those not known.

        Args:
            bring: Has the host bring a part of the weights.
            step: Is called when a picture or sound is done.
        """
        keys = [f"{self._keyframe}:{each.digest().hex()}" for each in self.needed]
        known = {key: self._engine.prefix_cache.get_features(key) for key in keys}
        made: dict[str, VisionFeatures] = {}
        for part in self.parts:
            mine = [
                (key, each)
                for key, each in zip(keys, self.needed, strict=True)
                if _part(each) == part
            ]
            if any(known[key] is None for key, _ in mine):
                bring(part)
            for key, each in mine:
                made[key] = made.get(key) or known[key] or self._encode(each, key)
                step()
        device = self._backbone.device_of(_part(self.needed[0]))
        shown = [made[key].to(device) for key in keys]
        # No family has both sounds and DeepStack.
        levels = zip(*(each.deepstack for each in shown), strict=True)
        merged = torch.cat([each.merged for each in shown])
        rows = self._rows([len(each.merged) for each in shown])
        if rows != sorted(rows):  # a sound between the frames of its video
            merged = merged[torch.tensor(rows, device=device)]
        self._features = merged, [torch.cat(level) for level in levels]

    def _encode(self, shown: Shown, key: str) -> VisionFeatures:
        """Runs a tower, and keeps what it made."""
        merged, deepstack = self._hear(shown) if isinstance(shown, SoundInput) else self._see(shown)
        features = VisionFeatures(merged, tuple(deepstack))
        cache = self._engine.prefix_cache
        if features.bytes <= cache.limit:
            cache.put_features(key, features.to(self._engine.host.cache_device, copy=True))
        return features

    def _see(self, picture: VisionInput) -> tuple[torch.Tensor, list[torch.Tensor]]:
        patches = picture.patches()
        device = self._backbone.device_of(VISION)
        pixels = patches.normalised(device, self._backbone.dtype)
        seen = self._backbone.encode_vision(pixels, patches.grid)
        LOG.debug("%s: vision tower, grid %s, on %s", self._engine.name, patches.grid, device)
        return seen

    def _hear(self, sound: SoundInput) -> tuple[torch.Tensor, list[torch.Tensor]]:
        features = self._backbone.encode_audio(sound.spectrum())
        device = self._backbone.device_of(AUDIO)
        LOG.debug("%s: audio tower, %d tokens, on %s", self._engine.name, sound.tokens, device)
        return features, []

    def _find_places(self) -> list[int]:
        """By their ids: beside the tokens of its grid these are markers that take a feature."""
        prompt = self._prompt
        muted = {n for n, vision_input in enumerate(prompt.vision_inputs) if vision_input.muted}
        columns = zip(prompt.ids, *self._columns, strict=True)
        return [
            place
            for place, (token, image, sound) in enumerate(columns)
            if token in prompt.feature_ids and (sound >= 0 or (image >= 0 and image not in muted))
        ]

    def _rows(self, sizes: list[int]) -> list[int]:
        """Rows of features, those of one behind those of another, in the order of their tokens."""
        ends = accumulate(sizes)
        rows = {
            each: iter(range(end - size, end))
            for each, size, end in zip(self._numbers, sizes, ends, strict=True)
        }
        images, sounds = self._columns
        found = (rows.get((images[at], sounds[at])) for at in self.places)
        return [next(row) for row in found if row is not None]

    @property
    def _columns(self) -> tuple[list[int], list[int]]:
        """Numbers of the picture and of the sound that each token is of."""
        return self._prompt.token_map["image"], audio_column(self._prompt.token_map)

    def _find_needed(
        self, start: int | None, end: int, known: Prefix | None
    ) -> list[tuple[int, int]]:
        """Numbers of pictures and sounds, -1 = neither."""
        begin, added = start or 0, min(self._backbone.num_deepstack, end)
        edge = 0 if known is None else known.length
        needed = [place for place in self.places if place >= edge]
        if start is not None and begin >= added:
            needed = []
        if known is not None and max(begin, known.depth) < added:
            needed = self.places  # DeepStack is still to come
        images, sounds = self._columns
        return list(dict.fromkeys((images[at], sounds[at]) for at in needed))


def _part(shown: Shown) -> str:
    """The part of a model that makes features of it."""
    return AUDIO if isinstance(shown, SoundInput) else VISION
