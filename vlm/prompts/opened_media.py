"""Pictures and sounds of a prompt opened up to their tokens, where its template has a place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..families import AudioAdapter, VisionAdapter
from ..pictures.preprocessor import VisionInput
from ..sounds.preprocessor import SoundInput
from .positions import Block, FilmBlock, VisionBlock, stretches_of
from .templates import Piece
from .token_columns import TokenColumns


@dataclass(frozen=True)
class Heard:
    """The sounds of a prompt.

    Attributes:
        sounds: All of them.
        order: Numbers of those that stand by themselves, as the pieces have them.
        films: Number of a video to that of its own sound, which stands between its frames.
        film_step: Tokens of such a sound at a time.
    """

    sounds: tuple[SoundInput, ...] = ()
    order: tuple[int, ...] = ()
    films: Mapping[int, int] = field(default_factory=dict)
    film_step: int = 0


NO_SOUND = Heard()


class OpenedMedia:
    """Pictures and sounds that wait for their places, and what they were opened up to.

    Args:
        out: Where their tokens go.
        vision_inputs: Pictures, then at most one video.
        order: Numbers of the pictures as the pieces have them; None = from 0 on.
        heard: The sounds.

    Attributes:
        blocks: What their positions are counted by.
    """

    def __init__(
        self,
        out: TokenColumns,
        vision_inputs: Sequence[VisionInput],
        order: Sequence[int] | None,
        heard: Heard,
    ):
        self.blocks: list[Block] = []
        self._out, self._vision_inputs, self._heard = out, vision_inputs, heard
        self._to_see = list(range(len(vision_inputs)) if order is None else order)
        self._to_hear = list(heard.order)
        self._number = -1  # of the picture that came last

    def take(self, piece: Piece, follows: str) -> bool:
        """Opens up what has its place here.

        Args:
            piece: A special token.
            follows: The text of the piece behind it.

        Returns:
            Whether it was a picture's or a sound's, or stands around one; else nothing was done.

        Raises:
            ValueError: None is left for this place.
        """
        vision, audio = self._out.family.vision, self._out.family.audio
        if vision is not None and self._see(vision, piece.text, follows):
            return True
        return audio is not None and self._hear(audio, piece.text)

    def need_none_left(self) -> None:
        """Refuses pictures and sounds for which there was no place.

        Raises:
            ValueError: There are some.
        """
        for left, kind in ((self._to_hear, "sounds"), (self._to_see, "pictures")):
            if left:
                raise ValueError(
                    f"The template has no place for these {kind}. Choose another template."
                )

    def _see(self, vision: VisionAdapter, text: str, follows: str) -> bool:
        if text in (vision.image_token, vision.video_token):
            if not self._to_see:
                raise ValueError("The template has more places for pictures than there are.")
            self._number = self._to_see.pop(0)
            self.blocks += self._opened(vision)
        elif text == vision.start:
            if not (vision.frames_apart and follows == vision.video_token):
                self._out.marker(text, self._to_see[0] if self._to_see else self._number)
        elif text == vision.end:
            # Each group of frames brought its own markers.
            if not (vision.frames_apart and self._vision_inputs[self._number].is_video):
                self._out.marker(text, self._number)
        else:
            return False
        return True

    def _opened(self, vision: VisionAdapter) -> Sequence[Block]:
        """Adds the tokens of the picture that comes now; the blocks they form."""
        number, audio = self._number, self._out.family.audio
        seen = self._vision_inputs[number]
        if number in self._heard.films and audio is not None:
            return [_open_film(self._out, vision, audio, number, seen, self._heard)]
        return _open_vision_input(self._out, vision, number, seen)

    def _hear(self, audio: AudioAdapter, text: str) -> bool:
        if text == audio.token:
            if not self._to_hear:
                raise ValueError("The template has more places for sounds than there are.")
            sound = self._to_hear.pop(0)
            _open_sound(self._out, audio, sound, self._heard.sounds[sound])
        return text in (audio.token, audio.start, audio.end)  # a sound brings its own markers


def _open_sound(out: TokenColumns, audio: AudioAdapter, number: int, sound: SoundInput) -> None:
    """Adds the tokens of one sound, and those around them."""
    out.sound(audio.start, "audio_marker", number)
    for at in range(sound.tokens):
        out.sound(audio.token, "audio", number, at * sound.milliseconds)
    out.sound(audio.end, "audio_marker", number)


def _open_film(
    out: TokenColumns,
    vision: VisionAdapter,
    audio: AudioAdapter,
    number: int,
    film: VisionInput,
    heard: Heard,
) -> Block:
    """Adds the tokens of a video with those of its sound between them; the block they form."""
    out.close()
    own = heard.films[number]
    sound, start = heard.sounds[own], len(out.ids) - 1  # the video's first marker stands already
    video = VisionBlock(start, film.frames, film.rows, film.cols, film.time_step)
    stretches = stretches_of(video, sound.tokens, heard.film_step)
    places = [(number, frame, *at) for frame in range(film.frames) for at in film.places(frame)]
    out.sound(audio.start, "audio_marker", own)
    seen = at = 0
    for frames, sounds in stretches:
        for place in places[seen : seen + frames]:
            out.token(vision.frame_token, "image", place)
        for step in range(at, at + sounds):
            out.sound(audio.token, "audio", own, step * sound.milliseconds)
        seen, at = seen + frames, at + sounds
    out.sound(audio.end, "audio_marker", own)
    return FilmBlock(start, video, stretches)


def _open_vision_input(
    out: TokenColumns, vision: VisionAdapter, number: int, vision_input: VisionInput
) -> list[VisionBlock]:
    """Adds the tokens of one picture or video; the blocks they form."""
    out.close()
    token = vision.frame_token if vision_input.is_video else vision.image_token
    frame_text = vision.frame_text if vision_input.is_video else None
    blocks = []
    if frame_text is None:
        step = vision_input.time_step
        blocks.append(
            VisionBlock(
                len(out.ids), vision_input.frames, vision_input.rows, vision_input.cols, step
            )
        )
    for frame in range(vision_input.frames):
        if frame_text is not None:
            out.text(Piece(frame_text(frame, vision_input.seconds[frame]), "template"))
            out.token(vision.start, "vision_marker", (number, 0, 0, 0, 0))
            blocks.append(VisionBlock(len(out.ids), 1, vision_input.rows, vision_input.cols))
        for item in vision.layout(vision_input, frame):
            if isinstance(item, str):
                out.marker(item, number)
            else:
                out.token(token, "image", (number, frame, *item))
        if frame_text is not None:
            out.token(vision.end, "vision_marker", (number, 0, 0, 0, 0))
    return blocks
