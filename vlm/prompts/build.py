"""From text, pictures, sounds and a template to token ids, with the role and place of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..families import Family
from ..pictures.preprocessor import VisionInput
from ..targets import Target
from ..token_map import new_map
from .opened_media import NO_SOUND, Heard, OpenedMedia
from .padding import Padding
from .positions import Block
from .prompt import Prompt
from .templates import Piece
from .token_columns import TYPED, TokenColumns
from .tokenizer import Tokenizer


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
    media = OpenedMedia(out, vision_inputs, order, heard)
    for index, piece in enumerate(pieces):
        out.turn = piece.turn
        if piece.vectors is not None:
            out.embedding(piece, piece.vectors)
        elif not piece.special:
            out.text(piece)
        elif not media.take(piece, pieces[index + 1].text if index + 1 < len(pieces) else ""):
            out.token(piece.text, "template", header=piece.header)
    out.close()
    media.need_none_left()
    if padding is not None and padding.cut:
        _cut(out, padding.least)
    return _finish(out, media.blocks, vision_inputs, heard, target)


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
