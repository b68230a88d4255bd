"""A tokenizer that lies in a file of weights as SentencePiece, as ComfyUI keeps Gemma's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from types import SimpleNamespace
from typing import Any

from .chat_template import ChatTemplate
from .tokenizer import Tokenizer, is_marker

_CONTROL, _USER_DEFINED = 3, 4  # kinds of pieces in sentencepiece_model.proto
_LENGTH_DELIMITED = 2


class SentencePieceTokenizer(Tokenizer):
    """SentencePiece with byte fallback whose text is not normalised, as Gemma's is."""

    def __init__(self, model: Any, added: Mapping[str, int], chat_template: str):
        """Takes a model that is loaded.

        Args:
            model: sentencepiece's SentencePieceProcessor.
            added: Special tokens that it does not know, and those it must not read itself.
            chat_template: In Jinja.
        """
        self._model = model
        pieces = list(_pieces(model.serialized_model_proto()))
        marks = {
            piece: number
            for number, (piece, kind) in enumerate(pieces)
            if kind in (_CONTROL, _USER_DEFINED) and is_marker(piece)
        }
        self._ids = marks | dict(added)
        self._marks_of = {number: mark for mark, number in self._ids.items()}
        self.specials = frozenset(self._ids)
        named = {"bos": model.bos_id(), "eos": model.eos_id(), "pad": model.pad_id()}
        self._named = {name: pieces[number][0] for name, number in named.items() if number >= 0}
        self.begin = (self._named["bos"],) if "bos" in self._named else ()
        asked = SimpleNamespace(
            special_tokens_map={f"{name}_token": piece for name, piece in self._named.items()},
            get_added_vocab=lambda: self._ids,
        )
        self.chat_template = ChatTemplate(asked, chat_template)

    @property
    def stops(self) -> frozenset[int]:
        """Id of the token that ends a text."""
        return self.find(self._named.get("eos", ""))

    @property
    def pad_token(self) -> str | None:
        """The token that it pads with, or else the one that ends a text."""
        return self._named.get("pad") or self._named.get("eos")

    def size(self, without: Sequence[str] = ()) -> int:
        """One more than its largest token id, some tokens not counted."""
        others = [number for mark, number in self._ids.items() if mark not in without]
        return max(self._model.get_piece_size(), *(number + 1 for number in others))

    def id_of(self, token: str) -> int:
        """Id of one special token.

        Raises:
            ValueError: The tokenizer has no such token.
        """
        if token not in self._ids:
            raise ValueError(
                f"The tokenizer in this file has no token {token}. It does not belong to this "
                "model; download the file again."
            )
        return self._ids[token]

    def split(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of ordinary text, and the characters [start, end) that each one covers."""
        ids: list[int] = []
        for stretch in self._apart(text):
            ids += self._model.encode(stretch, add_bos=False, add_eos=False)
        return ids, list(self._spans(ids))

    def text_of(self, ids: list[int]) -> str:
        """Text of ids, special tokens included."""
        text = ""
        for special, run in groupby(ids, self._marks_of.__contains__):
            numbers = list(run)
            said = map(self._marks_of.__getitem__, numbers)
            text += "".join(said) if special else self.words_of(numbers)
        return text

    def words_of(self, ids: Sequence[int]) -> str:
        """Text of ids without the special tokens; numbers that are no token's are nothing."""
        known = self._model.get_piece_size()
        spoken = (number for number in ids if number not in self._marks_of)
        return self._model.decode([number for number in spoken if number < known])

    @cached_property
    def _inside(self) -> re.Pattern[str]:
        """Where a special token is typed, behind its first letter."""
        first = "".join(sorted({mark[0] for mark in self.specials}))
        longest_first = sorted(self.specials, key=len, reverse=True)
        tails = "|".join(map(re.escape, longest_first))
        return re.compile(f"(?=[{re.escape(first)}])(?:{tails})")

    def _apart(self, text: str) -> Iterator[str]:
        """The text in stretches that hold no special token, which SentencePiece would read."""
        start = 0
        for found in self._inside.finditer(text):
            yield text[start : found.start() + 1]
            start = found.start() + 1
        yield text[start:]

    def _spans(self, ids: Sequence[int]) -> Iterator[tuple[int, int]]:
        """The characters of each id; letters that the model lacks take one id a byte."""
        at, letter = 0, b""
        for number in ids:
            piece = self._model.id_to_piece(number)
            if not self._model.is_byte(number):
                yield at, at + len(piece)
                at += len(piece)
                continue
            yield at, at + 1
            letter += bytes([int(piece[3:-1], 16)])  # <0xF0>
            try:
                letter.decode()
            except UnicodeDecodeError:
                continue
            at, letter = at + 1, b""


def _pieces(model: bytes) -> Iterator[tuple[str, int]]:
    """Each piece of a serialised model with its kind, in the order of the ids.

    SentencePiece's own Python does not say which pieces are user-defined, and those it reads in any
    text. Field 1 of the model are its pieces, and of a piece 1 is the text and 3 the kind
    (sentencepiece_model.proto).
    """
    for number, value in _fields(model):
        if number == 1:
            fields = dict(_fields(value))
            yield fields[1].decode(), fields.get(3, 1)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer; numbers of fixed width as bytes."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = number()
        kind = key & 7
        if kind == 0:
            yield key >> 3, number()
            continue
        size = number() if kind == _LENGTH_DELIMITED else {1: 8, 5: 4}[kind]
        yield key >> 3, message[at : at + size]
        at += size
