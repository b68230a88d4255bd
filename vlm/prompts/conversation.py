"""What was said before the prompt: turns of a person and answers of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..arguments import checked


@dataclass(frozen=True, eq=False)
class Turn:
    """What a person said and showed, and what the model answered.

    Attributes:
        text: The person's words.
        images: Their pictures, in any form that `VLM.encode` takes.
        video: Frames after the pictures; None = no video.
        fps: Frames per second of `video`.
        answer: The model's words; None = not yet given.
        audio: Their sounds, behind pictures and video, in any form that `VLM.encode` takes.
        audio_in_video: The first of them is the video's own.
    """

    text: str
    images: Any = None
    video: Any = None
    fps: float = 24.0
    answer: str | None = None
    audio: Any = None
    audio_in_video: bool = False


@dataclass(frozen=True, eq=False)
class Conversation:
    """Turns before a prompt, in order: plain words and pictures, so any model can go on with it.

    It never changes: `user` and `assistant` return a longer one.

        c = vlm.Conversation().user("What does the dog do?", images=[dog]).assistant("It runs.")
        h = v.encode("Paint that", conversation=c)

    Attributes:
        turns: The turns so far. With none of them, an encoding is that of the prompt alone.
    """

    turns: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what is no tuple of turns."""
        if not isinstance(self.turns, tuple) or not all(isinstance(t, Turn) for t in self.turns):
            raise TypeError(
                "The turns of a conversation are a tuple of turns, these are something else. Begin "
                "with `Conversation()`, and add turns with `user` and `assistant`."
            )

    def __repr__(self) -> str:
        said = sum(turn.answer is not None for turn in self.turns)
        return f"Conversation({len(self.turns)} turns, {said} answers)"

    @checked
    def user(
        self,
        text: str,
        images: Any = None,
        *,
        video: Any = None,
        fps: float = 24.0,
        audio: Any = None,
        audio_in_video: bool = False,
    ) -> Conversation:
        """The conversation with a person's words behind it.

        Args:
            text: The words. Special tokens in them stay ordinary text.
            images: Pictures, as `VLM.encode` takes them; they stand before the words.
            video: Frames, likewise; after the pictures.
            fps: Frames per second of `video`.
            audio: Sounds, likewise; after the video.
            audio_in_video: Whether the first of them is the video's own.

        Raises:
            ValueError: Neither words nor pictures nor sounds; or the model has not answered the
                last turn.
        """
        if self.is_open:
            raise ValueError(
                "Two turns of the user follow each other, and an answer stands between any two. "
                "Add the model's answer with `assistant`, or say both in one turn."
            )
        if not text.strip() and video is None and _is_nothing(images) and _is_nothing(audio):
            raise ValueError(
                "This turn says nothing: no words, no picture, no sound. Give it one of them, or "
                "leave it out."
            )
        turn = Turn(text, images, video, fps, None, audio, audio_in_video)
        return Conversation((*self.turns, turn))

    @checked
    def assistant(self, text: str) -> Conversation:
        """The conversation with the model's answer behind it.

        Args:
            text: The answer's words, such as `Rewritten.text`; without thinking.

        Raises:
            ValueError: No words; or no turn of the user waits for an answer.
        """
        if not self.is_open:
            raise ValueError(
                "An answer comes first, and a conversation begins with the user's turn. Add that "
                "with `user` before the answer."
            )
        if not text.strip():
            raise ValueError(
                "The answer of this turn is empty. Give the words that the model answered, such as "
                "the `text` of a rewriting."
            )
        return Conversation((*self.turns[:-1], replace(self.turns[-1], answer=text)))

    @property
    def is_open(self) -> bool:
        """Whether the last turn waits for its answer."""
        return bool(self.turns) and self.turns[-1].answer is None


def answered_turns(conversation: Conversation | None) -> tuple[Turn, ...]:
    """The turns before a prompt.

    Raises:
        ValueError: The last one waits for its answer.
    """
    if conversation is None:
        return ()
    if conversation.is_open:
        raise ValueError(
            "The conversation ends with a turn of the user that nobody answered, and the prompt is "
            "the user's next one. Add the answer with `assistant`, or give those words as the "
            "prompt."
        )
    return conversation.turns


def _is_nothing(images: Any) -> bool:
    return images is None or (isinstance(images, Sequence) and not len(images))
