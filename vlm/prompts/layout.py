"""A prompt laid out by a template: pieces of text, each with its role."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..families import Family
from ..pictures.preprocessor import VisionInput
from .chat_template import SYSTEM_SLOT, TEXT_SLOT, Chat, Turns
from .templates import IM_SYSTEM, IM_USER, Piece, Template, split_special
from .tokenizer import Tokenizer

# What layouts other than the chat template are made of.
_TURNS = Turns(IM_USER, IM_SYSTEM)
_TURN_TOKENS = ("<|im_start|>", "<|im_end|>")


def render(
    template: Template,
    tokenizer: Tokenizer,
    text: str,
    *,
    system: str | None,
    edit: str | None,
    vision_inputs: Sequence[VisionInput],
    family: Family,
) -> list[Piece]:
    """Lays a prompt out.

    Args:
        template: The preset.
        tokenizer: The model's.
        text: Typed text.
        system: Typed system text; None = the template's own, "" = none but what the model's own
            chat template brings by itself.
        edit: Typed editing text of X2I's templates.
        vision_inputs: Pictures, then at most one video.
        family: Its vision tokens, and what its chat template is given.

    Returns:
        Pieces; every picture is still one image token, every video one video token.
    """
    images = sum(not vision_input.is_video for vision_input in vision_inputs)
    video = any(vision_input.is_video for vision_input in vision_inputs)
    if system is None:
        system = template.system_for(len(vision_inputs), text)
    system = valid_text(system)
    typed = _typed(template, valid_text(text), bool(vision_inputs), tokenizer)
    if template.wording is not None:
        wording = template.wording(typed[0].text, valid_text(edit or ""), images, video)
        typed = list(map(Piece, wording, ("template", "text", "template")))
    if template.body is None:
        chat = Chat(
            "".join(piece.text for piece in typed),
            system,
            images,
            video,
            template.number_pictures,
            plain=family.vision is None,
            settings=family.chat_settings,
        )
        written = tokenizer.chat_template.write(chat)
        layout, turns, system = written.layout, written.turns, written.system
        typed = _cut(typed, written.text)
        if family.vision is not None and family.vision.in_chat is not None:
            layout = layout.replace(*family.vision.in_chat)
    else:
        pictures = _pictures(template, images, video, family)
        body = template.body.replace("{pictures}", pictures).replace("{text}", TEXT_SLOT)
        layout, turns = _with_system(template, body, bool(system), tokenizer, family), _TURNS
    fill = {SYSTEM_SLOT: [Piece(system, "system")], TEXT_SLOT: typed}
    return _begin(template, tokenizer, family) + _split(layout, turns, fill, tokenizer.specials)


def _typed(template: Template, text: str, pictures: bool, tokenizer: Tokenizer) -> list[Piece]:
    """The typed text, or what the template has in place of none."""
    if not text:
        instead = template.no_words_with_pictures if pictures else template.no_words
        if instead:
            return split_special(instead, "text", tokenizer.specials)
    return [Piece(text, "text")]


def _pictures(template: Template, images: int, video: bool, family: Family) -> str:
    """The pictures as a preset's own layout has them, then the video."""
    vision = family.vision
    if vision is None:
        return ""
    slots = [vision.image_token] * images + [vision.video_token] * video
    return template.between.join(
        template.picture.format(vision=vision.start + token + vision.end, number=number)
        for number, token in enumerate(slots, start=1)
    )


def _with_system(
    template: Template, layout: str, system: bool, tokenizer: Tokenizer, family: Family
) -> str:
    """A preset's own layout, with a slot for the system text where there is one.

    Raises:
        ValueError: The model does not know the tokens that its turns are made of.
    """
    lack = find_lack(template, tokenizer)
    if lack:
        best = "chat, the model's own layout" if tokenizer.chat_template else "raw"
        raise ValueError(
            f"The template {template.name} is written in Qwen's turn tokens, and this "
            f"{family.title} has no {lack}. Set template to {best}."
        )
    if system and not tokenizer.specials.issuperset(_TURN_TOKENS):
        return f"{SYSTEM_SLOT}\n\n{layout}"  # no turns at all: a paragraph of its own
    return f"{IM_SYSTEM}{SYSTEM_SLOT}<|im_end|>\n{layout}" if system else layout


def find_lack(template: Template, tokenizer: Tokenizer) -> str:
    """What a template is made of and a model lacks: "chat template" or a token; "" = nothing."""
    if template.body is None:
        return "" if tokenizer.chat_template else "chat template"
    used = (token for token in _TURN_TOKENS if token in template.body)
    return next((token for token in used if token not in tokenizer.specials), "")


def _cut(pieces: list[Piece], kept: str) -> list[Piece]:
    """Pieces without the blank space at their ends that a chat template cuts.

    Args:
        pieces: The pieces.
        kept: What is left of their text.
    """
    place = "".join(piece.text for piece in pieces).find(kept)
    if place < 0:
        return [Piece(kept, "text")]
    cut, start = [], -place
    for piece in pieces:
        end = start + len(piece.text)
        cut.append(replace(piece, text=kept[max(start, 0) : max(end, 0)]))
        start = end
    return cut


def _begin(template: Template, tokenizer: Tokenizer, family: Family) -> list[Piece]:
    """The first tokens, which a chat template mostly writes itself."""
    begin: tuple[str, ...] = (family.begin,) if family.begin in tokenizer.specials else ()
    if template.body is not None:
        begin = begin or tokenizer.begin
    return [Piece(token, "template", True) for token in begin]


def _split(
    layout: str, turns: Turns, fill: dict[str, list[Piece]], specials: frozenset[str]
) -> list[Piece]:
    """Cuts a layout at its slots, at its special tokens and where its turns begin.

    A system text that a chat template brings by itself gets its role: all that follows the
    beginning of the system turn, up to the next special token.

    Args:
        layout: Text with slots.
        turns: How its turns begin.
        fill: What stands for each slot.
        specials: The tokenizer's added tokens.
    """
    slots = f"({re.escape(SYSTEM_SLOT)}|{re.escape(TEXT_SLOT)})"
    pieces: list[Piece] = []
    for mark, part in _parts(layout, turns):
        role = "system" if mark == "system" else "template"
        for stretch in re.split(slots, part):
            if stretch in fill:
                pieces += fill[stretch]
                continue
            for piece in split_special(stretch, role, specials):
                role = "template" if piece.special else role
                pieces.append(replace(piece, role=role, header=mark == "user"))
    return [piece for piece in pieces if piece.text]


def _parts(layout: str, turns: Turns) -> Iterator[tuple[str, str]]:
    """A layout in parts, each with a mark.

    `user` = the beginning of that turn; `system` = behind the beginning of a system turn; "" =
    anything else.
    """
    start = layout.find(turns.system) if turns.system else -1
    if start >= 0:
        start += len(turns.system)
        yield "", layout[:start]
        layout = layout[start:]
    mark = "system" if start >= 0 else ""
    # Some templates leave out the blank before a picture.
    headers = (one for one in (turns.user, turns.user.rstrip(" ")) if one and one in layout)
    header = next(headers, None)
    if header is None:
        yield mark, layout
        return
    before, _, behind = layout.partition(header)
    yield mark, before
    yield "user", header
    yield "", behind


def valid_text(text: str) -> str:
    """Typed text as valid Unicode: half a surrogate pair, as JSON allows, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
