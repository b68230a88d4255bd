"""A prompt as token ids, with the role and place of every token, and all that they stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from ..pictures.preprocessor import VisionInput
from ..sounds.preprocessor import SoundInput
from ..targets import Target
from ..token_map import audio_column, join, new_map, turn_column
from .positions import Block


@dataclass(frozen=True)
class Prompt:
    """One prompt, ready to run.

    Attributes:
        ids: Token ids, padding included.
        token_map: Role and place of every token, plain data.
        blocks: The vision blocks, in order.
        vision_inputs: Pictures and video, in order of their number.
        sounds: Sounds, likewise.
        real: Tokens before the padding on the right, those of the left included.
        prefix: Tokens before what is most likely to change: the last words typed, or with turns
            before the prompt what follows them.
        dropped: Leading tokens that the target never sees.
        left: Pad tokens in front; such a prompt has no prefix to reuse.
        pad_position: Position of the pad tokens behind it; None = they count on.
        feature_ids: Tokens whose embeddings are a picture's or a sound's features where they are
            part of one.
        shared: Lengths of its beginnings that another prompt may have too, ascending, of those not
            longer than `prefix`: what comes before words or a picture, and what ends with them.
        embeddings: Vectors [D] of tokens that are no id's, by their place.
        weights: What the states of each token are multiplied by once they are taken out.
        missing: Names of embeddings that were not found.
    """

    ids: tuple[int, ...]
    token_map: dict
    blocks: tuple[Block, ...]
    vision_inputs: tuple[VisionInput, ...]
    real: int
    prefix: int
    dropped: int
    left: int = 0
    pad_position: int | None = None
    feature_ids: frozenset[int] = frozenset()
    shared: tuple[int, ...] = ()
    embeddings: dict[int, torch.Tensor] = field(default_factory=dict, compare=False)
    weights: tuple[float, ...] = ()
    missing: tuple[str, ...] = ()
    sounds: tuple[SoundInput, ...] = ()

    @cached_property
    def seen(self) -> tuple[int, ...]:
        """Numbers of the pictures and videos in the order in which they stand."""
        return tuple(dict.fromkeys(number for number in self.token_map["image"] if number >= 0))

    @cached_property
    def heard(self) -> tuple[int, ...]:
        """Numbers of the sounds in the order in which they stand."""
        column = audio_column(self.token_map)
        return tuple(dict.fromkeys(number for number in column if number >= 0))

    @property
    def shown(self) -> list[VisionInput]:
        """The pictures and videos in the order in which they stand."""
        return [self.vision_inputs[number] for number in self.seen]

    @cached_property
    def prefix_key(self) -> str:
        """Digest of the prefix: its token ids, and the pixels and vectors they stand for."""
        return self.key_of(self.prefix)

    def key_of(self, length: int) -> str:
        """Digest of a beginning of so many tokens, likewise."""
        if length not in self._keys:
            known = set(self.token_map["image"][:length])
            pictures = [number for number in self.seen if number in known]
            known = set(audio_column(self.token_map)[:length])
            sounds = [number for number in self.heard if number in known]
            self._keys[length] = self._digest(self.ids[:length], pictures, sounds, length)
        return self._keys[length]

    @cached_property
    def _keys(self) -> dict[int, str]:
        """Digests of beginnings by their length, as they were asked for."""
        return {}

    @cached_property
    def _pixels(self) -> list[bytes]:
        """Digest of each picture."""
        return [vision_input.digest() for vision_input in self.vision_inputs]

    @cached_property
    def _waves(self) -> list[bytes]:
        """Digest of each sound."""
        return [sound.digest() for sound in self.sounds]

    @cached_property
    def key(self) -> str:
        """Digest of all that decides its hidden states: ids, padding, pixels, waves, embeddings."""
        where = () if self.pad_position is None else (self.pad_position,)
        facts = (self.ids, self.real, self.left, *where)
        return self._digest(facts, self.seen, self.heard, len(self.ids))

    def continued(self, ids: Sequence[int], roles: Sequence[str]) -> Prompt:
        """The prompt with more tokens behind it, such as the model's answer.

        Args:
            ids: Their ids, never read as pictures.
            roles: One per token.

        Raises:
            ValueError: There are pad tokens at its end.
        """
        if self.real != len(self.ids):
            raise ValueError("A prompt with pad tokens at its end cannot be continued.")
        last = turn_column(self.token_map)[-1]
        return replace(
            self,
            ids=(*self.ids, *ids),
            token_map=join(self.token_map, new_map(roles, turns=[last] * len(ids))),
            real=self.real + len(ids),
            prefix=self.real,
            shared=(*self.shared, self.real),
            weights=(*self.weights, *[1.0] * len(ids)),
        )

    def put_embeddings(self, hidden: torch.Tensor, offset: int) -> torch.Tensor:
        """Puts the vectors of embeddings in the place of ids' embeddings.

        Args:
            hidden: [1, n, D], of the tokens from `offset` on.
            offset: Origin 0.
        """
        here = {place: v for place, v in self.embeddings.items() if place >= offset}
        if here:
            hidden = hidden.clone()
            places = [place - offset for place in here]
            hidden[:, places] = torch.stack(list(here.values())).to(hidden)
        return hidden

    def _digest(
        self, facts: tuple, pictures: Sequence[int], sounds: Sequence[int], length: int
    ) -> str:
        digest = hashlib.sha256(repr(facts).encode())
        for number in pictures:
            digest.update(self._pixels[number])
        for number in sounds:
            digest.update(self._waves[number])
        for place, vector in self.embeddings.items():
            if place < length:
                digest.update(f"{place} ".encode() + vector.numpy().tobytes())
        return digest.hexdigest()


def unpadded(target: Target) -> Target:
    """The same target without pad tokens on the right."""
    return replace(target, pad_to=0, pad_multiple=1)
