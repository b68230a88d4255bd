"""The tokens of a prompt as they are laid down: ids, roles and places."""

from __future__ import annotations

import torch

from ..families import Family
from .templates import Piece, split_special
from .tokenizer import Tokenizer

Place = tuple[int, int, int, int, int]  # image, frame, tile, row, column
NOWHERE: Place = (-1, 0, 0, 0, 0)
SILENT = (-1, 0)  # sound, milliseconds
TYPED = ("text", "generated")  # roles of words that may be others next time


class TokenColumns:
    """Collects the tokens of a prompt; runs of ordinary text are split together, as one string.

    Attributes:
        ids: Token ids.
        roles: Role of each token.
        places: Place of each token.
        sounds: Sound of each token, -1 = none, and the time in it in milliseconds.
        turns: Turn of a conversation that each token belongs to.
        weights: What the states of each token are multiplied by.
        vectors: Embedding [D] of each token where it is not its id's; else None.
        turn: That of the tokens to come.
        header: Indices of the tokens that stand before the user's words, and of nothing else.
        header_joined: Whether the last of what stands there shares a token with those words.
    """

    def __init__(self, tokenizer: Tokenizer, family: Family):
        """Begins with no token."""
        self.tokenizer = tokenizer
        self.family = family
        self.ids: list[int] = []
        self.roles: list[str] = []
        self.places: list[Place] = []
        self.sounds: list[tuple[int, int]] = []
        self.turns: list[int] = []
        self.weights: list[float] = []
        self.vectors: list[torch.Tensor | None] = []
        self.turn = 0
        self.header: list[int] = []
        self.header_joined = False
        self._open: list[tuple[Piece, Place, int]] = []

    def text(self, piece: Piece, place: Place = NOWHERE) -> None:
        """Adds ordinary text."""
        if piece.apart:
            self.close()
        self._open.append((piece, place, self.turn))

    def embedding(self, piece: Piece, vectors: torch.Tensor) -> None:
        """Adds tokens that are vectors [n, D]; their ids are a pad token's and mean nothing."""
        self.close()
        number = self.tokenizer.id_of(self._pad_token())
        for vector in vectors:
            self._add(number, piece.role, NOWHERE, False, self.turn, piece.weight, vector)

    def token(self, token: str, role: str, place: Place = NOWHERE, header: bool = False) -> None:
        """Adds one special token."""
        self.close()
        self._add(self.tokenizer.id_of(token), role, place, header, self.turn)

    def sound(self, token: str, role: str, number: int, time: int = 0) -> None:
        """Adds one token of a sound, or one around it; `time` in milliseconds."""
        self.token(token, role)
        self.sounds[-1] = (number, time)

    def marker(self, text: str, image: int) -> None:
        """Adds what stands around a picture's tokens, or between them."""
        place = (image, 0, 0, 0, 0)
        for piece in split_special(text, "vision_marker", self.tokenizer.specials):
            if piece.special:
                self.token(piece.text, piece.role, place)
            else:
                self.text(piece, place)

    def pad(self, count: int) -> None:
        """Adds pad tokens."""
        for _ in range(count):
            self.token(self._pad_token(), "pad")

    def _pad_token(self) -> str:
        """Of the family's first kind that the tokenizer has, or the tokenizer's own."""
        known = (token for token in self.family.pad_tokens if token in self.tokenizer.specials)
        return next(known, self.tokenizer.pad_token or self.family.pad_tokens[0])

    def close(self) -> None:
        """Splits the text collected since the last special token.

        A token that joins template and typed characters counts as typed: what follows it depends
        on the text. One that joins characters of several weights has their mean, blanks not
        counted.
        """
        pieces, self._open = self._open, []
        known = [one for one in pieces for _ in one[0].text]
        text = "".join(piece.text for piece, _, _ in pieces)
        ids, spans = self.tokenizer.split(text)
        for token_id, (start, end) in zip(ids, spans, strict=True):
            some = known[start : max(end, start + 1)]
            typed = (one for one in some if one[0].role in TYPED)
            piece, place, turn = next(typed, some[-1])
            headers = {one.header for one, _, _ in some}
            header = headers == {True}
            self.header_joined |= len(headers) > 1 and some[0][0].header
            weight = _mean_weight([one for one, _, _ in some], text[start:end])
            self._add(token_id, piece.role, place, header, turn, weight)

    def _add(
        self,
        token_id: int,
        role: str,
        place: Place,
        header: bool,
        turn: int,
        weight: float = 1.0,
        vector: torch.Tensor | None = None,
    ) -> None:
        if header:
            self.header.append(len(self.ids))
        self.ids.append(token_id)
        self.roles.append(role)
        self.places.append(place)
        self.sounds.append(SILENT)
        self.turns.append(turn)
        self.weights.append(weight)
        self.vectors.append(vector)


def _mean_weight(pieces: list[Piece], text: str) -> float:
    """Of a token, from the piece of each of its characters; blanks count where all are."""
    weights = [one.weight for one, char in zip(pieces, text, strict=False) if not char.isspace()]
    weights = weights or [one.weight for one in pieces]
    return sum(weights) / len(weights)
