"""A tokenizer's chat template: the layout it writes, what it makes of words, how its turns begin.

A template is a program that nobody here has written. What it does is found out by rendering it
around slots, which no typed text can hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from ..quoted import reason

if TYPE_CHECKING:
    from .template_sandbox import TemplateSandbox


SYSTEM_SLOT = "\ue000system\ue001"
IMAGE, VIDEO, AUDIO, TEXT = (
    "image",
    "video",
    "audio",
    "text",
)  # kinds of parts, as chat templates call them


def text_slot(number: int) -> str:
    """What stands in a layout for its words of that number, origin 0."""
    return f"\ue000text{number}\ue001"


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
class Said:
    """A message, as a chat template is given it.

    Attributes:
        role: `system`, `user` or `assistant`.
        parts: In their order, the kind of each (IMAGE, VIDEO, AUDIO or TEXT) and its words
            ("" of the others).
    """

    role: str
    parts: tuple[tuple[str, str], ...]

    def written(self, plain: bool) -> dict[str, Any]:
        """The message in the form that templates read.

        Args:
            plain: As text, and not as a list of parts.
        """
        parts = [{"type": kind, "text": words} if kind == TEXT else {"type": kind}
                 for kind, words in self.parts]  # fmt: skip
        words = "".join(words for _, words in self.parts)
        return {"role": self.role, "content": words if plain else parts}


def say(role: str, words: str) -> Said:
    """A message of words alone."""
    return Said(role, ((TEXT, words),))


@dataclass(frozen=True)
class Chat:
    """What is said, as a chat template is asked to write it.

    Attributes:
        messages: The user's and the model's, in turn; the user's last.
        system: The system text; "" = no system message, so the template has its own way.
        number_images: Write "Picture 1: " before each picture.
        plain: Messages are text and not lists of parts, as text-only models want them.
        settings: What the template is given beside the messages.
    """

    messages: tuple[Said, ...]
    system: str = ""
    number_images: bool = False
    plain: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The words of all messages, one text a part."""
        return [words for said in self.messages for kind, words in said.parts if kind == TEXT]

    def with_words(self, words: Sequence[str], system: str) -> Chat:
        """The same chat with other words in the same places."""
        others = iter(words)
        messages = tuple(
            replace(
                said,
                parts=tuple((kind, next(others) if kind == TEXT else "") for kind, _ in said.parts),
            )
            for said in self.messages
        )
        return replace(self, messages=messages, system=system)


@dataclass(frozen=True)
class Written:
    """A prompt as a chat template writes it.

    Attributes:
        layout: Its text, with slots for system text and words.
        words: What it leaves of each of the words: some templates cut blank space at the ends.
        system: What it leaves of the system text.
        turns: How its turns begin.
    """

    layout: str
    words: tuple[str, ...]
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
        words, system = chat.words, SYSTEM_SLOT if chat.system else ""
        slots = [text_slot(number) for number in range(len(words))]
        layout = self._layout(chat, slots, system)
        if any(slot not in layout for slot in (*slots, system)):
            raise ValueError(
                "The model's chat template leaves the text out. Set template to another one, or "
                "correct the template in the tokenizer's folder."
            )

        def around(number: int, at: str) -> str:
            return self._layout(chat, [*slots[:number], at, *slots[number + 1 :]], system)

        kept = tuple(
            _kept(text, slots[number], layout, partial(around, number))
            for number, text in enumerate(words)
        )
        told = _kept(chat.system, SYSTEM_SLOT, layout, lambda at: self._layout(chat, slots, at))
        return Written(layout, kept, told, self._turns_of(chat))

    def _layout(self, chat: Chat, words: Sequence[str], system: str) -> str:
        chat = chat.with_words(words, system)
        messages = [say("system", system)] if system else []
        return self._render(
            [said.written(chat.plain) for said in (*messages, *chat.messages)],
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
            raise ValueError(
                f"The model's chat template cannot be used ({reason(error)}). Set `template` to "
                "raw, or take the template of the model's own repository."
            ) from error

    @cached_property
    def _sandbox(self) -> TemplateSandbox:
        from .template_sandbox import TemplateSandbox

        return TemplateSandbox()

    def _turns_of(self, chat: Chat) -> Turns:
        """How turns begin in such a chat; found out once."""
        key = chat.plain, repr(chat.settings)
        if key not in self._turns:
            self._turns[key] = self._probe_turns(chat.plain, chat.settings)
        return self._turns[key]

    def _probe_turns(self, plain: bool, settings: Mapping[str, Any]) -> Turns:
        """How turns begin: what comes between an answer's end and the next words of the user.

        Nothing is known of a template that writes one question and no conversation.
        """
        asked, answered, next_asked = (text_slot(number) for number in range(3))
        said = say("user", asked), say("assistant", answered), say("user", next_asked)
        messages = [each.written(plain) for each in said]
        settings = {"add_generation_prompt": False, **settings}
        try:
            ended = self._render(messages[:2], **settings)
            longer = self._render(messages, **settings)
        except ValueError:
            return Turns()
        end = ended.partition(answered)[2]
        before = longer.partition(asked)[0]
        between = longer.partition(answered)[2].partition(next_asked)[0]
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
