r"""ComfyUI's prompt syntax: `\(` and `\)`, `embedding:name`, and weights where they are asked for.

It is read as comfy/sd1_clip.py reads it: in the text that a template has laid out around the words,
not in the words alone. An embedding thereby also joins with single blanks what follows it up to the
next one, the template's own line breaks included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import torch

from ..arguments import checked
from ..logger import LOG
from ..quoted import told
from ..targets import Target
from .embeddings import Folders, find_embedding
from .templates import Piece, Template
from .word_weights import weigh_words

AS_NATIVE, SCALE = "as native", "scale states"
WEIGHTS = (AS_NATIVE, SCALE)
_NAME = "embedding:"
_BEGINNING = re.compile(rf"(?<=\s){_NAME}")
_WORD, _WORDS, _ENDS_NAME = map(re.compile, (r"\S+", r"\S+(?: \S+)*", r"[<\[]"))
_ESCAPED = re.compile(r"\\([()])")
_ANSWERED = "generated"  # what a model has said is no prompt


@dataclass(frozen=True)
class PromptSyntax:
    r"""What characters of a prompt mean beyond themselves.

    Attributes:
        embeddings: Where `embedding:name` is looked up: folders, or name to tensor [n, D] (or [D]);
            None = it stays words.
        weights: AS_NATIVE = `(word:1.3)` stays words, as in ComfyUI's encoders of these models;
            SCALE = the states of the word's tokens are multiplied by 1.3.

    Raises:
        TypeError: One of another type.
        ValueError: Another choice of weights.
    """

    embeddings: Folders | Mapping[str, torch.Tensor] | None = None
    weights: str = AS_NATIVE

    def __post_init__(self) -> None:
        _need_types(self.embeddings, self.weights)
        if self.weights not in WEIGHTS:
            known = ", ".join(WEIGHTS)
            raise ValueError(f"`weights` is {told(self.weights)}. Choose one of: {known}.")


def _types(embeddings: Folders | Mapping[str, torch.Tensor] | None, weights: str) -> None:
    """The types of a syntax."""


_need_types = checked(_types, PromptSyntax.__name__)


@dataclass(frozen=True)
class Read:
    """A prompt whose syntax has been read.

    Attributes:
        pieces: What is to be tokenized, without what was syntax.
        missing: Names of embeddings that were not found.
    """

    pieces: list[Piece]
    missing: tuple[str, ...] = ()


def read_syntax(
    pieces: Sequence[Piece],
    syntax: PromptSyntax,
    target: Target,
    width: int,
    template: Template,
) -> Read:
    """Reads the syntax in a prompt that has been laid out.

    Args:
        pieces: Of `render`.
        syntax: What is syntax.
        target: Whose text encoder's way it is.
        width: Of the VLM's tokens.
        template: The preset; where its `words_apart` is set, each stretch between special tokens
            is read by itself, and where nothing is left of one its `no_words` stand there.

    Raises:
        ValueError: An embedding that does not fit or cannot be read; a weight beyond reason, or
            for a target that reads none.
    """
    if syntax.weights == SCALE:
        pieces = weigh_words(pieces)
        if target.norms_tokens and any(piece.weight != 1.0 for piece in pieces):
            raise ValueError(
                f"The prompt weighs words for {target.title}, which norms each token before all "
                "else, so that their weights would change nothing. Set `weights` to as native, or "
                "write the parentheses as \\( and \\)."
            )
    pieces = [_unescape(piece) for piece in pieces]
    if not any(_NAME in piece.text for piece in pieces):
        return Read(pieces)
    source = syntax.embeddings if target.takes_embeddings else None
    reader = _Reader(source, target.embedding_key, width)
    for run in _runs(pieces) if template.words_apart else [pieces]:
        before = len(reader.pieces)
        reader.read(run)
        if template.words_apart and len(reader.pieces) == before:
            reader.pieces.append(replace(run[0], text=template.no_words, special=True))
    for name in reader.missing:
        LOG.warning("%s was not found and is left out.", told(_NAME + name))
    return Read(reader.pieces, tuple(reader.missing))


def _unescape(piece: Piece) -> Piece:
    if piece.special or piece.role == _ANSWERED or "\\" not in piece.text:
        return piece
    return replace(piece, text=_ESCAPED.sub(r"\1", piece.text))


def _runs(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces by whether they are special tokens."""
    return [list(run) for _, run in groupby(pieces, lambda piece: piece.special)]


class _Reader:
    """Puts embeddings in the place of their names.

    Attributes:
        pieces: What was read so far.
        missing: Names that were not found, in their order.
    """

    def __init__(
        self, source: Folders | Mapping[str, torch.Tensor] | None, key: str, width: int
    ) -> None:
        self.pieces: list[Piece] = []
        self.missing: list[str] = []
        self._source, self._key, self._width = source, key, width

    def read(self, pieces: list[Piece]) -> None:
        """Reads a run: cuts it before every name, and looks each one up."""
        text = "".join(piece.text for piece in pieces)
        names = _places_of_names(pieces, text)
        for start, end in pairwise([*sorted({0, *names}), len(text)]):
            stretch = _slice(pieces, start, end)
            if start in names and self._source is not None:
                self._read_name(stretch, text[start:end])
            else:
                self._add(stretch, apart=start in names)

    def _read_name(self, stretch: list[Piece], text: str) -> None:
        """A stretch that begins with a name: its vectors, then the rest joined with blanks."""
        word = _WORD.search(text, len(_NAME))
        start, stop = word.span() if word is not None else (len(text), len(text))
        rest = [found.span() for found in _WORDS.finditer(text, stop)]
        cut = _ENDS_NAME.search(text, start, stop)
        if cut is not None:
            rest.insert(0, (cut.start(), stop))
            stop = cut.start()
        name, place = text[start:stop], stretch[0]
        vectors = self._find(name)
        bare = name.strip(",")
        joined = _join(stretch, rest)
        if vectors is None and len(bare) < len(name):
            vectors = self._find(bare)
            # ComfyUI cuts as many characters off the front as the name has without its commas.
            tail = (start + len(bare), stop)
            blank = replace(_slice(stretch, stop - 1, stop)[0], text=" ")
            joined = [*_slice(stretch, *tail), blank, *joined]
        if vectors is None:
            self.missing.append(name)
        else:
            self.pieces.append(replace(place, text=_NAME + name, vectors=vectors))
        self._add(joined, apart=True)

    def _find(self, name: str) -> torch.Tensor | None:
        """The vectors of a name. Without one, as `embedding:` alone, nothing is meant.

        ComfyUI then looks "" up: it takes a file that is called as one of the folders and lies
        beside it, and ends with an error where nothing at all follows.
        """
        if not name or self._source is None:
            return None
        return find_embedding(name, self._source, self._key, self._width)

    def _add(self, pieces: list[Piece], apart: bool) -> None:
        if pieces and apart:
            pieces = [replace(pieces[0], apart=True), *pieces[1:]]
        self.pieces += pieces


def _places_of_names(pieces: Sequence[Piece], text: str) -> set[int]:
    """Where names of embeddings begin: first of all, behind blank space, or where a weight begins.

    Not in what a model has answered.
    """
    places = {found.start() for found in _BEGINNING.finditer(text)}
    answered: set[int] = set()
    start, weight = 0, 1.0
    for piece in pieces:
        end = start + len(piece.text)
        if piece.text.startswith(_NAME) and (not start or piece.weight != weight):
            places.add(start)
        if piece.role == _ANSWERED:
            answered.update(place for place in places if start <= place < end)
        start, weight = end, piece.weight
    return places - answered


def _slice(pieces: Sequence[Piece], start: int, end: int) -> list[Piece]:
    """The characters [start, end) of pieces; a special token is never cut."""
    cut, at = [], 0
    for piece in pieces:
        text = piece.text[max(start - at, 0) : max(end - at, 0)]
        if text:
            cut.append(replace(piece, text=text))
        at += len(piece.text)
    return cut


def _join(pieces: Sequence[Piece], spans: Sequence[tuple[int, int]]) -> list[Piece]:
    """Stretches of pieces with a blank between any two."""
    joined: list[Piece] = []
    for start, end in spans:
        if joined:
            before = _slice(pieces, start - 1, start)[0]  # of the blank space there
            joined.append(replace(before, text=" "))
        joined += _slice(pieces, start, end)
    return joined
