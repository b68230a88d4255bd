"""From text, pictures and a template to token ids, with the role and place of every token."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from ..families import Family, VisionAdapter
from ..pictures.preprocessor import VisionInput
from ..targets import Target
from ..token_map import join, new_map, turn_column
from .padding import Padding
from .positions import VisionBlock
from .templates import Piece
from .token_columns import TYPED, TokenColumns
from .tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """One prompt, ready to run.

    Attributes:
        ids: Token ids, padding included.
        token_map: Role and place of every token, plain data.
        blocks: The vision blocks, in order.
        vision_inputs: Pictures and video, in order of their number.
        real: Tokens before the padding on the right, those of the left included.
        prefix: Tokens before what is most likely to change: the last words typed, or with turns
            before the prompt what follows them.
        dropped: Leading tokens that the target never sees.
        left: Pad tokens in front; such a prompt has no prefix to reuse.
        pad_position: Position of the pad tokens behind it; None = they count on.
        feature_ids: Tokens whose embeddings are a picture's features where they are part of one.
        shared: Lengths of its beginnings that another prompt may have too, ascending, of those not
            longer than `prefix`: what comes before words or a picture, and what ends with them.
        embeddings: Vectors [D] of tokens that are no id's, by their place.
        weights: What the states of each token are multiplied by once they are taken out.
        missing: Names of embeddings that were not found.
    """

    ids: tuple[int, ...]
    token_map: dict
    blocks: tuple[VisionBlock, ...]
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

    @cached_property
    def seen(self) -> tuple[int, ...]:
        """Numbers of the pictures and videos in the order in which they stand."""
        return tuple(dict.fromkeys(number for number in self.token_map["image"] if number >= 0))

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
            self._keys[length] = self._digest(self.ids[:length], pictures, length)
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
    def key(self) -> str:
        """Digest of all that decides its hidden states: ids, padding, pixels, embeddings."""
        where = () if self.pad_position is None else (self.pad_position,)
        return self._digest((self.ids, self.real, self.left, *where), self.seen, len(self.ids))

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

    def _digest(self, facts: tuple, pictures: Sequence[int], length: int) -> str:
        digest = hashlib.sha256(repr(facts).encode())
        for number in pictures:
            digest.update(self._pixels[number])
        for place, vector in self.embeddings.items():
            if place < length:
                digest.update(f"{place} ".encode() + vector.numpy().tobytes())
        return digest.hexdigest()


def unpadded(target: Target) -> Target:
    """The same target without pad tokens on the right."""
    return replace(target, pad_to=0, pad_multiple=1)


def build_prompt(
    pieces: Sequence[Piece],
    tokenizer: Tokenizer,
    family: Family,
    vision_inputs: Sequence[VisionInput],
    target: Target,
    padding: Padding | None = None,
    order: Sequence[int] | None = None,
) -> Prompt:
    """Turns pieces into ids, and opens up pictures to their tokens; nothing is padded.

    Args:
        pieces: Of `render`.
        tokenizer: The model's.
        family: Its vision tokens.
        vision_inputs: Pictures, then at most one video.
        target: Says what of the beginning it never sees.
        padding: Where it cuts; None = nowhere.
        order: Numbers of the pictures as the pieces have them; None = from 0 on.

    Raises:
        ValueError: The template has fewer or more places for pictures than there are pictures, or
            a picture lies behind the end that `padding` cuts at.
    """
    out = TokenColumns(tokenizer, family)
    vision = family.vision
    blocks: list[VisionBlock] = []
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
            blocks += _open_vision_input(out, vision, number, vision_inputs[number])
        elif vision is not None and piece.text == vision.start:
            follows = pieces[index + 1].text if index + 1 < len(pieces) else ""
            if not (vision.frames_apart and follows == vision.video_token):
                out.marker(piece.text, waiting[0] if waiting else number)
        elif vision is not None and piece.text == vision.end:
            # Each group of frames brought its own markers.
            if not (vision.frames_apart and vision_inputs[number].is_video):
                out.marker(piece.text, number)
        else:
            out.token(piece.text, "template", header=piece.header)
    out.close()
    if waiting:
        raise ValueError("The template has no place for these pictures. Choose another template.")
    if padding is not None and padding.cut:
        _cut(out, padding.least)
    return _finish(out, blocks, vision_inputs, target)


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
    if "image" in out.roles[end:]:
        raise ValueError(
            f"The pictures alone reach beyond the {end} tokens at which this template "
            f"cuts: {len(out.ids)} were needed. Lower `max_pixels`, or choose the "
            "template x2i, which cuts nothing."
        )
    for column in (out.ids, out.roles, out.places, out.turns, out.weights, out.vectors):
        del column[end:]


def _finish(
    out: TokenColumns,
    blocks: list[VisionBlock],
    vision_inputs: Sequence[VisionInput],
    target: Target,
) -> Prompt:
    real = len(out.ids)
    if not real:
        raise ValueError("There is nothing to encode: no text and no picture.")
    shared = _shared(out)
    dropped = _dropped(out, target)
    grids = [
        {"image": number, **vision_input.grid} for number, vision_input in enumerate(vision_inputs)
    ]
    image, frame, tile, row, col = zip(*out.places, strict=True)
    token_map = new_map(out.roles, image, frame, tile, row, col, grids, turns=out.turns)
    vision = out.family.vision
    features = (vision.image_token, vision.frame_token) if vision is not None else ()
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
    )


def _shared(out: TokenColumns) -> tuple[int, ...]:
    """Lengths of beginnings that end where words or pictures begin or end; see `Prompt`.

    The last one, which is kept, ends before the last words typed (an empty text starts behind the
    last picture); with turns before the prompt behind them, where the next turn goes on.
    """
    real = len(out.ids)
    places = zip(out.roles, out.places, strict=True)
    kinds = [role if role in TYPED else image for role, (image, *_) in places]  # -1 = neither
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
