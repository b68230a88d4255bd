"""From what a person gives to a prompt that is ready to run, for one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from logging import DEBUG

from .logger import LOG
from .pictures.preprocessor import Preprocessor
from .prompts.build import build_prompt
from .prompts.inputs import PromptInputs
from .prompts.layout import render
from .prompts.looking import Looked, Looking
from .prompts.messages import messages_of, valid_text
from .prompts.opened_media import Heard
from .prompts.padding import NONE, choose_padding
from .prompts.pads import pad_prompt
from .prompts.prompt import Prompt, unpadded
from .prompts.prompt_syntax import read_syntax
from .prompts.templates import Template, find_template
from .prompts.tokenizer import Tokenizer
from .running.engine import Engine
from .running.rewrite import Pad
from .sounds.preprocessor import SoundPreprocessor
from .targets import Target, find_target


@dataclass(frozen=True)
class Prompting:
    """How prompts are laid out for a model.

    Attributes:
        engine: The model.
        tokenizer: Its tokenizer.
        preprocessor: Its preprocessing of pictures; None where it cannot see.
        hearing: Its preprocessing of sounds; None where it cannot hear.
        layer: Layer (without final norm) that a person chose instead of a target's single one.
    """

    engine: Engine
    tokenizer: Tokenizer
    preprocessor: Preprocessor | None
    hearing: SoundPreprocessor | None
    layer: int | None

    def find_goal(self, inputs: PromptInputs) -> Target:
        """The target, with the layer that a person chose on the model instead of its own."""
        goal = find_target(inputs.target)
        if inputs.padding == NONE:
            goal = unpadded(goal)
        if self.layer is None or goal.layers is None or goal.combine != "single":
            return goal
        chosen = (self.layer,)
        return replace(goal, layers=chosen, layers_with_images=chosen, final_norm=False)

    def look(self, inputs: PromptInputs, goal: Target) -> Looked:
        """Pictures and videos at the size the model sees them, sounds as it hears them."""
        family, backbone = self.engine.family, self.engine.backbone
        settings = backbone.vision_config if family.has_vision else None
        looking = Looking(self.engine.name, family, self.preprocessor, settings, self.hearing)
        return looking.look(inputs, _layout(inputs, goal), goal)

    def lay_out(self, text: str, inputs: PromptInputs, goal: Target, seen: Looked) -> Prompt:
        """Lays one text out with what is shown beside it.

        Args:
            text: The words.
            inputs: How they are to stand.
            goal: Of `find_goal`.
            seen: Of `look`.
        """
        if not isinstance(text, str) or not isinstance(inputs.system, str | None):
            kind = type(inputs.system if isinstance(text, str) else text).__name__
            raise TypeError(f"The prompt and the system prompt are text, one is a {kind}.")
        family, tokenizer = self.engine.family, self.tokenizer
        layout = _layout(inputs, goal)
        messages = messages_of(layout, text, inputs, seen.turns, tokenizer.specials)
        system = inputs.system
        if system is None:
            system = layout.system_for(len(seen.inputs), text)
        pieces = render(layout, tokenizer, messages, system=valid_text(system), family=family)
        missing: tuple[str, ...] = ()
        if inputs.syntax is not None:
            read = read_syntax(pieces, inputs.syntax, goal, self.engine.backbone.width, layout)
            pieces, missing = read.pieces, read.missing
        padding = choose_padding(inputs.padding, layout.padding, goal.pad_side)
        shown = [part for said in messages for part in said.parts if not part.is_words]
        prompt = build_prompt(
            pieces,
            tokenizer,
            family,
            seen.inputs,
            goal,
            padding,
            [part.number for part in shown if not part.is_sound],
            self._hear(seen, [part.number for part in shown if part.is_sound]),
        )
        prompt = pad_prompt(prompt, tokenizer, family, goal, padding)
        prompt = replace(prompt, missing=missing)
        if LOG.isEnabledFor(DEBUG):
            name = self.engine.name
            LOG.debug("%s: template %s for %s, %s", name, layout.name, goal.name, _told(prompt))
        return prompt

    def _hear(self, seen: Looked, order: Sequence[int]) -> Heard:
        """The sounds as the pieces of a prompt have them."""
        audio = self.engine.family.audio
        films = {
            turn.video: turn.own_sound
            for turn in seen.turns
            if turn.video is not None and turn.own_sound is not None
        }
        step = audio.film_step(self.engine.backbone.vision_config) if audio and films else 0
        return Heard(tuple(seen.sounds), tuple(order), films, step)

    def pad_behind(self, inputs: PromptInputs, padding: str) -> tuple[Target, Pad]:
        """The target with its own pad tokens, and what puts those around prompt and answer."""
        goal = self.find_goal(replace(inputs, padding=padding))
        chosen = choose_padding(padding, _layout(inputs, goal).padding, goal.pad_side)

        def pad(prompt: Prompt) -> Prompt:
            # All of it is known once it was written, so that pad tokens behind it run alone.
            whole = replace(prompt, prefix=prompt.real, shared=(*prompt.shared, prompt.real))
            padded = pad_prompt(whole, self.tokenizer, self.engine.family, goal, chosen)
            return padded if len(padded.ids) > len(prompt.ids) else prompt

        return goal, pad


def one_each(inputs: PromptInputs, texts: Sequence[str]) -> list[PromptInputs] | None:
    """The inputs of each of several texts, where the pictures are a list for each; else None."""
    images = inputs.images
    nested = isinstance(images, list | tuple) and bool(images)
    if not nested or not all(isinstance(each, list | tuple | None) for each in images):
        return None
    if len(images) != len(texts):
        raise ValueError(
            f"`images` holds {len(images)} lists for {len(texts)} texts. Give one list for each "
            "text, which may be empty, or a flat list that all of them get."
        )
    return [replace(inputs, images=each) for each in images]


def _layout(inputs: PromptInputs, goal: Target) -> Template:
    return find_template(inputs.template or goal.template)


def _told(prompt: Prompt) -> str:
    """A prompt's ids for the log, runs of one id as `id x length`."""
    runs = [(one, len(list(same))) for one, same in groupby(prompt.ids)]
    words = (str(one) if length == 1 else f"{one} x {length}" for one, length in runs)
    return f"{len(prompt.ids)} ids [{', '.join(words)}]"
