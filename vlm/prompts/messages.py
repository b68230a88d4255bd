"""What is said, as messages, before a template lays it out: words and pictures in their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .conversation import answered_turns
from .inputs import PromptInputs
from .markers import MARKER, check_names
from .templates import Piece, Template, split_special
from .wordings import Shown

USER, ASSISTANT = "user", "assistant"


@dataclass(frozen=True)
class Part:
    """A part of a message: words, or a picture, a video or a sound.

    Attributes:
        pieces: The words; () where it is something else.
        number: Number of the picture or video among all, or of the sound among all sounds,
            origin 0; -1 where it is words.
        is_video: It is a video.
        is_sound: It is a sound.
    """

    pieces: tuple[Piece, ...] = ()
    number: int = -1
    is_video: bool = False
    is_sound: bool = False

    @property
    def is_words(self) -> bool:
        """Whether it is words."""
        return self.number < 0

    @property
    def text(self) -> str:
        """The words."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Message:
    """A message.

    Attributes:
        role: USER or ASSISTANT.
        parts: Its words, pictures, videos and sounds, in their order.
    """

    role: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Seen:
    """The pictures, the video and the sounds of one turn, as numbers among those of all turns.

    Attributes:
        images: Numbers of its pictures, origin 0.
        video: Number of its video; None = it has none.
        sounds: Numbers of its sounds among all sounds, origin 0.
        own_sound: Number of the one that is the video's own; None = it has none.
    """

    images: range = range(0)
    video: int | None = None
    sounds: range = range(0)
    own_sound: int | None = None


def messages_of(
    template: Template,
    text: str,
    inputs: PromptInputs,
    seen: Sequence[Seen],
    specials: frozenset[str],
) -> list[Message]:
    """A prompt and the turns before it as messages.

    Args:
        template: The preset; the user's words are said as it wants them, in every turn.
        text: Typed text.
        inputs: The conversation, X2I's editing text, and whether words place pictures.
        seen: Pictures of every turn, the prompt's last.
        specials: The tokenizer's added tokens.

    Raises:
        ValueError: Words name a picture that is not there, or name it twice; the conversation
            waits for an answer.
    """
    messages: list[Message] = []
    for number, turn in enumerate(answered_turns(inputs.conversation)):
        messages.append(_asked(template, turn.text, inputs, seen[: number + 1], specials))
        answer = Piece(valid_text(turn.answer or ""), "generated")
        messages.append(Message(ASSISTANT, (Part((answer,)),)))
    return [*messages, _asked(template, text, inputs, seen, specials)]


def _asked(
    template: Template,
    text: str,
    inputs: PromptInputs,
    seen: Sequence[Seen],
    specials: frozenset[str],
) -> Message:
    """A turn's words as the template says them, and its pictures; `seen` ends with those.

    As X2I's infer/inference_multi_turn.py, which wraps the words of every turn.
    """
    shown = Shown(
        sum(len(each.images) for each in seen),
        any(each.video is not None for each in seen),
        sum(len(each.sounds) for each in seen),
    )
    pieces = _typed(template, valid_text(text), bool(shown.pictures or shown.video), specials)
    if template.wording is not None:
        edit = valid_text(inputs.edit or "")
        before, typed, after = template.wording(pieces[0].text, edit, shown)
        pieces = [Piece(before, "template"), Piece(typed, "text"), Piece(after, "template")]
    return user_message(pieces, seen[-1], inputs.placed and not template.writes_markers)


def user_message(pieces: Sequence[Piece], seen: Seen, placed: bool) -> Message:
    """A person's words, pictures and sounds.

    Args:
        pieces: The words.
        seen: The pictures and sounds of this turn.
        placed: Whether `<image1>` in typed words stands for the turn's first picture. A picture
            that no words name stands before them, as all do otherwise.

    Raises:
        ValueError: A name without its picture, or one that is there twice.
    """
    words = _place(pieces, seen.images) if placed else [Part(tuple(pieces))]
    taken = {part.number for part in words}
    parts = [Part(number=number) for number in seen.images if number not in taken]
    if seen.video is not None:
        parts.append(Part(number=seen.video, is_video=True))
    alone = (number for number in seen.sounds if number != seen.own_sound)
    parts += [Part(number=number, is_sound=True) for number in alone]
    return Message(USER, (*parts, *words))


def valid_text(text: str) -> str:
    """Typed text as valid Unicode: half a surrogate pair, as JSON allows, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _typed(template: Template, text: str, pictures: bool, specials: frozenset[str]) -> list[Piece]:
    """The typed text, or what the template has in place of none."""
    if not text:
        instead = template.no_words_with_pictures if pictures else template.no_words
        if instead:
            return split_special(instead, "text", specials)
    return [Piece(text, "text")]


def _place(pieces: Sequence[Piece], numbers: range) -> list[Part]:
    """Words cut where they name a picture, and the pictures between them."""
    parts: list[Part] = []
    words: list[Piece] = []
    for piece in pieces:
        if piece.role != "text" or piece.special:
            words.append(piece)
            continue
        check_names(piece.text, len(numbers))
        start = 0
        for found in MARKER.finditer(piece.text):
            words.append(Piece(piece.text[start : found.start()], piece.role))
            number = _number(found, numbers, parts)
            parts += [Part(tuple(words)), Part(number=number)]
            words, start = [], found.end()
        words.append(Piece(piece.text[start:], piece.role))
    parts.append(Part(tuple(words)))
    cut = len(parts) > 1
    return [part for part in parts if not (cut and part.is_words and not part.text)]


def _number(found: re.Match[str], numbers: range, parts: Sequence[Part]) -> int:
    """The picture that a marker names."""
    number = numbers[int(found[1]) - 1]
    if any(part.number == number for part in parts):
        raise ValueError(
            f"The words name {found[0]} twice, and a picture stands in one place. Write it once, "
            "and say which picture you mean in words elsewhere."
        )
    return number
