"""A tokenizer's chat template: the layout it writes, what it makes of words, how its turns begin.

A template is a program that nobody here has written. What it does is found out by rendering it
around slots, which no typed text can hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .template_sandbox import TemplateSandbox


TEXT_SLOT = "\ue000text\ue001"
SYSTEM_SLOT = "\ue000system\ue001"
ANSWER_SLOT = "\ue000answer\ue001"
NEXT_SLOT = "\ue000next\ue001"


@dataclass(frozen=True)
class Turns:
    """What a layout writes before the words of a turn.

    Attributes:
        user: Before a user's; "" = not known.
        system: Before a system text; "" = there are no such turns.
    """

    user: str = ""
    system: str = ""


@dataclass(frozen=True)
class Chat:
    """What is said, as a chat template is asked to write it.

    Attributes:
        text: The user's words.
        system: The system text; "" = no system message, so the template has its own way.
        images: Pictures before the words.
        video: A video after the pictures.
        number_images: Write "Picture 1: " before each picture.
        plain: Messages are text and not lists of parts, as text-only models want them.
        settings: What the template is given beside the messages.
    """

    text: str
    system: str = ""
    images: int = 0
    video: bool = False
    number_images: bool = False
    plain: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def user(self, words: str) -> dict[str, Any]:
        """A user's message with the pictures."""
        content = [{"type": "image"} for _ in range(self.images)]
        content += [{"type": "video"}] if self.video else []
        content.append({"type": "text", "text": words})
        return {"role": "user", "content": words if self.plain else content}

    def said(self, role: str, words: str) -> dict[str, Any]:
        """A message without pictures."""
        parts = [{"type": "text", "text": words}]
        return {"role": role, "content": words if self.plain else parts}


@dataclass(frozen=True)
class Written:
    """A prompt as a chat template writes it.

    Attributes:
        layout: Its text, with slots for system text and words.
        text: What it leaves of the words: some templates cut blank space at the ends.
        system: What it leaves of the system text.
        turns: How its turns begin.
    """

    layout: str
    text: str
    system: str
    turns: Turns


class ChatTemplate:
    """The chat template of a tokenizer."""

    def __init__(self, tokenizer: Any, source: str | None):
        """Holds it; nothing is rendered.

        Args:
            tokenizer: transformers' own.
            source: The template in Jinja; None or "" = there is none.
        """
        self._tokenizer = tokenizer
        self._source = source
        self._turns: dict[tuple[bool, str], Turns] = {}

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._source)

    def write(self, chat: Chat) -> Written:
        """Lays out what is said.

        Raises:
            ValueError: There is no chat template, or it cannot be used, or leaves the text out.
        """
        if not self._source:
            raise ValueError(
                "This model has no chat template, which the template chat is made of. Set template "
                "to raw for a model that was not trained on turns, or add chat_template.jinja to "
                "the tokenizer's folder."
            )
        system = SYSTEM_SLOT if chat.system else ""
        layout = self._layout(chat, TEXT_SLOT, system)
        missing = TEXT_SLOT not in layout or system not in layout
        if missing:
            raise ValueError(
                "The model's chat template leaves the text out. Set template to another one, or "
                "correct the template in the tokenizer's folder."
            )
        text = _kept(chat.text, TEXT_SLOT, layout, lambda at: self._layout(chat, at, system))
        said = _kept(chat.system, SYSTEM_SLOT, layout, lambda at: self._layout(chat, TEXT_SLOT, at))
        return Written(layout, text, said, self._turns_of(chat))

    def _layout(self, chat: Chat, text: str, system: str) -> str:
        messages = [chat.user(text)]
        if system:
            messages.insert(0, chat.said("system", system))
        return self._render(
            messages,
            add_generation_prompt=True,
            add_vision_id=chat.number_images,
            **chat.settings,
        )

    def _render(self, messages: list[dict[str, Any]], **settings: Any) -> str:
        from jinja2 import TemplateError

        given = {"tools": None, "documents": None, **self._tokenizer.special_tokens_map, **settings}
        try:
            return self._sandbox.render(self._source or "", messages=messages, **given)
        except (TemplateError, TypeError, ValueError) as error:  # TypeError: one for text alone
            why = str(error) if len(str(error)) <= 200 else f"{str(error)[:200]}…"
            raise ValueError(
                f"The model's chat template cannot be used ({why}). Set `template` to raw, or take "
                "the template of the model's own repository."
            ) from error

    @cached_property
    def _sandbox(self) -> TemplateSandbox:
        from .template_sandbox import TemplateSandbox

        return TemplateSandbox()

    def _turns_of(self, chat: Chat) -> Turns:
        """How turns begin in such a chat; found out once."""
        key = chat.plain, repr(chat.settings)
        if key not in self._turns:
            self._turns[key] = self._probe_turns(Chat("", plain=chat.plain, settings=chat.settings))
        return self._turns[key]

    def _probe_turns(self, chat: Chat) -> Turns:
        """How turns begin: what comes between an answer's end and the next words of the user.

        Nothing is known of a template that writes one question and no conversation.
        """
        messages = [
            chat.said("user", TEXT_SLOT),
            chat.said("assistant", ANSWER_SLOT),
            chat.said("user", NEXT_SLOT),
        ]
        settings = {"add_generation_prompt": False, **chat.settings}
        try:
            ended = self._render(messages[:2], **settings)
            longer = self._render(messages, **settings)
        except ValueError:
            return Turns()
        end = ended.partition(ANSWER_SLOT)[2]
        before = longer.partition(TEXT_SLOT)[0]
        between = longer.partition(ANSWER_SLOT)[2].partition(NEXT_SLOT)[0]
        marks = [mark for mark in self._tokenizer.get_added_vocab() if mark in longer]
        user = _common_end(before, between.removeprefix(end), marks)
        system = user.replace("user", "system").replace("User", "System").replace("USER", "SYSTEM")
        return Turns(user, system if system != user else "")


def _kept(words: str, slot: str, layout: str, render: Callable[[str], str]) -> str:
    """What a template leaves of words whose ends are blank.

    Args:
        words: The words.
        slot: What stands for them in `layout`.
        layout: The template's, around the slot alone.
        render: The template's layout around another text.
    """
    core = words.strip()
    if core == words:
        return words
    start = len(words) - len(words.lstrip())
    before, after = (len(side) for side in layout.split(slot, 1))
    lead = render(words[:start] + slot).split(slot, 1)[0][before:]
    trail = words[start + len(core) :] if core else lead  # all blank: cut at both ends
    kept = render(slot + trail).split(slot, 1)[1]
    trail = kept[: len(kept) - after]
    return lead + core + trail if core else trail


def _common_end(one: str, two: str, marks: Sequence[str]) -> str:
    """The longest text that both end with and that cuts none of some special tokens in two."""
    longest_first = sorted(map(re.escape, marks), key=len, reverse=True)
    unit = re.compile("|".join([*longest_first, "."]), re.DOTALL)
    pairs = zip(reversed(unit.findall(one)), reversed(unit.findall(two)), strict=False)
    return "".join(reversed([a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]))
