"""A prompt laid out by a template: pieces of text, each with its role."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

from ..families import Family
from .chat_template import AUDIO, IMAGE, SYSTEM_SLOT, TEXT, VIDEO, Chat, Said, Turns, text_slot
from .messages import ASSISTANT, USER, Message, Part
from .templates import IM_END, IM_SYSTEM, IM_USER, Piece, Template, split_special
from .tokenizer import Tokenizer

# What layouts other than the chat template are made of.
_TURNS = Turns(IM_USER, IM_SYSTEM)
_TURN_TOKENS = ("<|im_start|>", "<|im_end|>")
_NEXT_TURN = "\ue000turn\ue001"  # stands in a layout before each turn but the first


def render(
    template: Template,
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    system: str,
    family: Family,
) -> list[Piece]:
    """Lays a prompt out.

    Args:
        template: The preset.
        tokenizer: The model's.
        messages: The user's and the model's in turn, the prompt last.
        system: System text; "" = none but what the model's own chat template brings by itself.
        family: Its vision tokens, and what its chat template is given.

    Returns:
        Pieces; every picture is still one image token, every video one video token, every sound one
        audio token, in the order of the messages' parts.

    Raises:
        ValueError: The template needs what the model has not, or takes no conversation.
    """
    typed = [list(part.pieces) for said in messages for part in said.parts if part.is_words]
    if template.body is None:
        chat = Chat(
            tuple(_as_said(said) for said in messages),
            system,
            template.number_pictures,
            plain=family.vision is None,
            settings=family.chat_settings,
        )
        written = tokenizer.chat_template.write(chat)
        turns, system = written.turns, written.system
        layout = _mark_turns(written.layout, messages, turns)
        typed = [_cut(one, kept) for one, kept in zip(typed, written.words, strict=True)]
        if family.vision is not None and family.vision.in_chat is not None:
            layout = layout.replace(*family.vision.in_chat)
    else:
        body = _own_layout(template, messages, family)
        layout, turns = _with_system(template, body, bool(system), tokenizer, family), _TURNS
    fill = {text_slot(number): pieces for number, pieces in enumerate(typed)}
    fill[SYSTEM_SLOT] = [Piece(system, "system")]
    return _begin(template, tokenizer, family) + _split(layout, turns, fill, tokenizer.specials)


def _as_said(message: Message) -> Said:
    """A message as a chat template is given it."""
    return Said(
        message.role,
        tuple((TEXT, part.text) if part.is_words else (_kind(part), "") for part in message.parts),
    )


def _kind(part: Part) -> str:
    """The kind of a part that is no words, as chat templates call it."""
    return AUDIO if part.is_sound else VIDEO if part.is_video else IMAGE


def _mark_turns(layout: str, messages: Sequence[Message], turns: Turns) -> str:
    """A chat template's layout with a mark where each turn but the first begins."""
    header, slot = turns.user.rstrip(), -1  # its blank end may stand behind a picture
    for message in messages:
        slot += sum(part.is_words for part in message.parts)
        if message.role == ASSISTANT:
            end = layout.index(text_slot(slot)) + len(text_slot(slot))
            start = layout.find(header, end) if header else end
            layout = layout[:start] + _NEXT_TURN + layout[start:] if start >= 0 else layout
    return layout


def _own_layout(template: Template, messages: Sequence[Message], family: Family) -> str:
    """The messages as a preset's own layout has them, with slots for their words.

    Raises:
        ValueError: There are turns, and the preset's layout has none.
    """
    body = template.body or ""
    if len(messages) > 1 and not body.startswith(IM_USER):
        raise ValueError(
            f"The template {template.name} has no turns, and a conversation is made of them. Set "
            "`template` to chat, the model's own layout, or leave the conversation out."
        )
    pictures, words, layout = count(1), count(), ""
    for message in messages[:-1]:
        said = _content(template, message, family, pictures, words)
        user = message.role == USER
        layout += IM_USER + said + IM_END if user else f"{said}<|im_end|>\n{_NEXT_TURN}"
    said = _content(template, messages[-1], family, pictures, words)
    return layout + body.replace("{said}", said)


def _content(
    template: Template,
    message: Message,
    family: Family,
    pictures: Iterator[int],
    words: Iterator[int],
) -> str:
    """What a preset's own layout has for a message: slots for words, and pictures.

    Args:
        template: The preset.
        message: The message.
        family: Its vision tokens.
        pictures: Numbers that the preset writes beside pictures, as they come.
        words: Numbers of the slots, likewise.
    """
    shown, said = [], ""
    for part in message.parts:
        if part.is_words:
            said += text_slot(next(words))
            continue
        block = _block(template, part, family, pictures)
        if said:
            said += block
        else:
            shown.append(block)
    return template.between.join(shown) + said


def _block(template: Template, part: Part, family: Family, pictures: Iterator[int]) -> str:
    """What a preset's own layout has for a picture, a video or a sound."""
    if part.is_sound:
        return "" if family.audio is None else family.audio.block
    if family.vision is None:
        return ""
    vision = family.vision
    token = vision.video_token if part.is_video else vision.image_token
    return template.picture.format(vision=vision.start + token + vision.end, number=next(pictures))


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
        return [Piece(kept, pieces[0].role)]
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
    slots = "(" + "|".join(map(re.escape, (*fill, _NEXT_TURN))) + ")"
    pieces: list[Piece] = []
    turn = 0
    for mark, part in _parts(layout, turns):
        role = "system" if mark == "system" else "template"
        for stretch in re.split(slots, part):
            if stretch == _NEXT_TURN:
                turn += 1
                continue
            if stretch in fill:
                pieces += [replace(piece, turn=turn) for piece in fill[stretch]]
                continue
            for piece in split_special(stretch, role, specials):
                role = "template" if piece.special else role
                pieces.append(replace(piece, role=role, header=mark == "user", turn=turn))
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
