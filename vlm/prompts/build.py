"""From text, pictures, sounds and a template to token ids, with the role and place of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..families import AudioAdapter, Family, VisionAdapter
from ..pictures.preprocessor import VisionInput
from ..sounds.preprocessor import SoundInput
from ..targets import Target
from ..token_map import new_map
from .padding import Padding
from .positions import Block, FilmBlock, VisionBlock, stretches_of
from .prompt import Prompt
from .templates import Piece
from .token_columns import TYPED, TokenColumns
from .tokenizer import Tokenizer


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


def build_prompt(
    pieces: Sequence[Piece],
    tokenizer: Tokenizer,
    family: Family,
    vision_inputs: Sequence[VisionInput],
    target: Target,
    padding: Padding | None = None,
    order: Sequence[int] | None = None,
    heard: Heard = NO_SOUND,
) -> Prompt:
    """Turns pieces into ids, and opens up pictures and sounds to their tokens; nothing is padded.

    Args:
        pieces: Of `render`.
        tokenizer: The model's.
        family: Its vision tokens.
        vision_inputs: Pictures, then at most one video.
        target: Says what of the beginning it never sees.
        padding: Where it cuts; None = nowhere.
        order: Numbers of the pictures as the pieces have them; None = from 0 on.
        heard: The sounds.

    Raises:
        ValueError: The template has fewer or more places for pictures or sounds than there are, or
            one of them lies behind the end that `padding` cuts at.
    """
    out = TokenColumns(tokenizer, family)
    vision, audio = family.vision, family.audio
    blocks: list[Block] = []
    to_hear = list(heard.order)
    waiting = list(range(len(vision_inputs)) if order is None else order)
    number = -1
    for index, piece in enumerate(pieces):
        out.turn = piece.turn
        if piece.vectors is not None:
            out.embedding(piece, piece.vectors)
        elif not piece.special:
            out.text(piece)
        elif vision is not None and piece.text in (vision.image_token, vision.video_token):
            if not waiting:
                raise ValueError("The template has more places for pictures than there are.")
            number = waiting.pop(0)
            if number in heard.films and audio is not None:
                blocks.append(_open_film(out, vision, audio, number, vision_inputs[number], heard))
            else:
                blocks += _open_vision_input(out, vision, number, vision_inputs[number])
        elif vision is not None and piece.text == vision.start:
            follows = pieces[index + 1].text if index + 1 < len(pieces) else ""
            if not (vision.frames_apart and follows == vision.video_token):
                out.marker(piece.text, waiting[0] if waiting else number)
        elif vision is not None and piece.text == vision.end:
            # Each group of frames brought its own markers.
            if not (vision.frames_apart and vision_inputs[number].is_video):
                out.marker(piece.text, number)
        elif audio is not None and piece.text == audio.token:
            if not to_hear:
                raise ValueError("The template has more places for sounds than there are.")
            sound = to_hear.pop(0)
            _open_sound(out, audio, sound, heard.sounds[sound])
        elif audio is not None and piece.text in (audio.start, audio.end):
            continue  # a sound brings its own
        else:
            out.token(piece.text, "template", header=piece.header)
    out.close()
    if to_hear:
        raise ValueError("The template has no place for these sounds. Choose another template.")
    if waiting:
        raise ValueError("The template has no place for these pictures. Choose another template.")
    if padding is not None and padding.cut:
        _cut(out, padding.least)
    return _finish(out, blocks, vision_inputs, heard, target)


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


def _cut(out: TokenColumns, end: int) -> None:
    """Leaves out what stands behind so many tokens."""
    if {"image", "audio"} & set(out.roles[end:]):
        raise ValueError(
            f"The pictures and sounds alone reach beyond the {end} tokens at which this template "
            f"cuts: {len(out.ids)} were needed. Lower `max_pixels`, or choose the "
            "template x2i or x2i-paper, which cut nothing."
        )
    columns = (out.ids, out.roles, out.places, out.sounds, out.turns, out.weights, out.vectors)
    for column in columns:
        del column[end:]


def _finish(
    out: TokenColumns,
    blocks: list[Block],
    vision_inputs: Sequence[VisionInput],
    heard: Heard,
    target: Target,
) -> Prompt:
    real = len(out.ids)
    if not real:
        raise ValueError("There is nothing to encode: no text and no picture.")
    shared = _shared(out, {sound: film for film, sound in heard.films.items()})
    dropped = _dropped(out, target)
    grids = [
        {"image": number, **vision_input.grid} for number, vision_input in enumerate(vision_inputs)
    ]
    image, frame, tile, row, col = zip(*out.places, strict=True)
    audios, times = zip(*out.sounds, strict=True)
    token_map = new_map(
        out.roles, image, frame, tile, row, col, grids, turns=out.turns, audios=audios, times=times
    )
    vision, audio = out.family.vision, out.family.audio
    features = [vision.image_token, vision.frame_token] if vision is not None else []
    features += [] if audio is None else [audio.token]
    return Prompt(
        tuple(out.ids),
        token_map,
        tuple(blocks),
        tuple(vision_inputs),
        real,
        shared[-1],
        dropped,
        feature_ids=out.tokenizer.find(*features),
        shared=shared,
        embeddings={n: vector for n, vector in enumerate(out.vectors) if vector is not None},
        weights=tuple(out.weights),
        sounds=heard.sounds,
    )


def _shared(out: TokenColumns, films: Mapping[int, int]) -> tuple[int, ...]:
    """Lengths of beginnings that end where words or pictures begin or end; see `Prompt`.

    The last one, which is kept, ends before the last words typed (an empty text starts behind the
    last picture); with turns before the prompt behind them, where the next turn goes on. `films`
    are the videos of sounds that are part of one.
    """
    real = len(out.ids)
    places = zip(out.roles, out.places, out.sounds, strict=True)
    kinds: list[str | int] = [  # -1 = neither
        role if role in TYPED else films.get(sound, f"sound {sound}") if sound >= 0 else image
        for role, (image, *_), (sound, _) in places
    ]
    edges = [i for i in range(1, real) if kinds[i] != kinds[i - 1]]
    typed = [i for i in (0, *edges) if kinds[i] in TYPED]
    ends = [i for i in edges if kinds[i - 1] != -1]
    if not typed:
        return (min(ends[-1], real - 1) if ends else 0,)
    last = ends[-1] if out.turns[-1] and ends else typed[-1]
    alone = len(typed) == 1  # pictures and then words, as every prompt is unless it is asked for
    return (last,) if alone else (*(edge for edge in edges if edge < last), last)


def _dropped(out: TokenColumns, target: Target) -> int:
    """Leading tokens the target never sees, found by the turns, whatever their texts say.

    Where the turn's beginning shares a token with the typed text, as with words that begin with a
    line break, that token is typed, and the turn's beginning stays with it: ComfyUI's own encoders
    look for "user" and a line break as tokens of their own.

    Raises:
        ValueError: The target counts them, and the prompt has no more.
    """
    if target.drop_first:
        if len(out.ids) <= target.drop_first:
            raise ValueError(
                f"{target.title} leaves out the first {target.drop_first} tokens, this prompt has "
                f"{len(out.ids)}. Leave `system` and `template` to the target, or write more words."
            )
        return target.drop_first
    if not target.drop or not out.header:
        return 0
    whole = target.drop == "system" or out.header_joined
    return out.header[0] if whole else out.header[-1] + 1
