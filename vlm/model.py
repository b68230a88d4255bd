"""A loaded VLM: prompts in, hidden states out, with everything before the text reused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from logging import DEBUG
from typing import Any, overload

import torch

from .arguments import checked, need_size
from .families import Family
from .logger import LOG
from .pictures.preprocessor import Preprocessor
from .prompts.conversation import Conversation
from .prompts.inputs import PromptInputs
from .prompts.layout import render
from .prompts.looking import Looked, Looking
from .prompts.messages import messages_of, valid_text
from .prompts.padding import AUTO, NONE, choose_padding
from .prompts.pads import pad_prompt
from .prompts.prompt import Prompt, build_prompt, unpadded
from .prompts.prompt_syntax import PromptSyntax, read_syntax
from .prompts.rewrite_prompts import DEFAULT, find_system
from .prompts.templates import Template, find_template
from .prompts.tokenizer import Tokenizer
from .running.backbone import Backbone
from .running.engine import Engine
from .running.hidden_states import HiddenStates, states_of
from .running.host import Host
from .running.prefix_cache import PrefixCache
from .running.rewrite import MAX_TOKENS, Pad, Rewritten, Wish, replay, write
from .running.sampling import Sampling
from .running.writing import OnToken
from .targets import Target, find_target


class VLM:
    """A vision-language model as an encoder, and as a rewriter of prompts.

    Attributes:
        engine: Weights, surroundings and caches.
        tokenizer: Its tokenizer.
        preprocessor: Its preprocessing of pictures; None where it cannot see.
        stops: Ids of the tokens that end an answer.
        syntax: What characters of a prompt mean beyond themselves where `encode` is not told.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        preprocessor: Preprocessor | None,
        *,
        layer: int | None = None,
        stops: frozenset[int] | None = None,
        syntax: PromptSyntax | None = None,
    ):
        """Puts the parts together; `vlm.load` reads them from a folder.

        Args:
            engine: Weights, surroundings and caches.
            tokenizer: Its tokenizer.
            preprocessor: Its preprocessing of pictures; None where it cannot see.
            layer: Layer (without final norm) that a person chose instead of a target's single one.
            stops: Ids of the tokens that end an answer, beside the family's; None = the
                tokenizer's own.
            syntax: What characters of a prompt mean beyond themselves; None = nothing.
        """
        self.engine = engine
        self.tokenizer = tokenizer
        self.preprocessor = preprocessor
        own = tokenizer.stops if stops is None else stops
        self.stops = own | tokenizer.find(*engine.family.stop_tokens)
        self.syntax = syntax
        self._layer = layer

    def __repr__(self) -> str:
        dtype = str(self.backbone.dtype).removeprefix("torch.")
        return (
            f"VLM({self.name!r}: {self.family.title}, {self.num_layers} layers with the "
            f"embeddings, {self.backbone.width} wide, {dtype})"
        )

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.engine.name

    @property
    def family(self) -> Family:
        """What its family does its own way."""
        return self.engine.family

    @property
    def backbone(self) -> Backbone:
        """The weights, layer by layer."""
        return self.engine.backbone

    @property
    def host(self) -> Host:
        """Who moves the weights and shows progress."""
        return self.engine.host

    @property
    def prefix_cache(self) -> PrefixCache:
        """What is known of the beginnings of prompts."""
        return self.engine.prefix_cache

    @property
    def patcher(self) -> Any:
        """What ComfyUI's caches recognise a model by; None outside ComfyUI."""
        return self.engine.patcher

    @property
    def num_layers(self) -> int:
        """L: decoder layers and the embeddings."""
        return self.engine.num_layers

    @overload
    def encode(
        self, text: str, images: Any = None, *, target: str = "chat", template: str | None = None,
        system: str | None = None, edit: str | None = None, video: Any = None, fps: float = 24.0,
        min_pixels: int | None = None, max_pixels: int | None = None, depth: int | None = None,
        keep_mb: float = 512, padding: str = AUTO, mute: Sequence[int] = (), placed: bool = False,
        conversation: Conversation | None = None, syntax: PromptSyntax | None = None,
    ) -> HiddenStates: ...  # fmt: skip

    # Not any sequence of texts: a text is one, too.
    @overload
    def encode(
        self, text: list[str] | tuple[str, ...], images: Any = None, *, target: str = "chat",
        template: str | None = None, system: str | None = None, edit: str | None = None,
        video: Any = None, fps: float = 24.0, min_pixels: int | None = None,
        max_pixels: int | None = None, depth: int | None = None, keep_mb: float = 512,
        padding: str = AUTO, mute: Sequence[int] = (), placed: bool = False,
        conversation: Conversation | None = None, syntax: PromptSyntax | None = None,
    ) -> list[HiddenStates]: ...  # fmt: skip

    @checked
    def encode(
        self,
        text: str | Sequence[str],
        images: Any = None,
        *,
        target: str = "chat",
        template: str | None = None,
        system: str | None = None,
        edit: str | None = None,
        video: Any = None,
        fps: float = 24.0,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        depth: int | None = None,
        keep_mb: float = 512,
        padding: str = AUTO,
        mute: Sequence[int] = (),
        placed: bool = False,
        conversation: Conversation | None = None,
        syntax: PromptSyntax | None = None,
    ) -> HiddenStates | list[HiddenStates]:
        """Prepares the hidden states of a prompt; layers run when they are asked for.

        Args:
            text: The prompt, or several. Special tokens in it stay ordinary text.
            images: PIL images, paths, tensors or arrays [H, W, C] or [B, H, W, C] (float 0..1 or
                uint8), or a list of these; they stand before the text in their order. A batch is
                several pictures. With several texts a list of lists gives each text its own.
            target: The diffusion model that will read it (`vlm.targets`), or `chat`.
            template: Layout (`vlm.prompts.templates`); None = the target's.
            system: System prompt; None = the template's own, "" = none but what the model's own
                chat template brings by itself.
            edit: Editing text of X2I's templates.
            video: Frames, float [T, H, W, C] in 0..1 or PIL images; after the pictures.
            fps: Frames per second of `video`.
            min_pixels: Fewest pixels of a picture as the VLM sees it; None = the target's.
            max_pixels: Most pixels, likewise.
            depth: Layer index to run to at once, in -L..L-1; None = nothing runs yet.
            keep_mb: Bound in MB (2**20 bytes) under which every layer passed is kept.
            padding: `auto` = as the target was trained; `left` and `right` = pad tokens in front
                or behind, to the template's length or 512; `none` = no pad token anywhere.
            mute: Numbers (origin 0, a video last) of pictures that the model does not see: their
                tokens stay where they are, as plain placeholders.
            placed: Whether `<image1>` in the words stands for the first picture, `<image2>` for
                the second, and so on; a picture that is not named stands where it does otherwise.
                With a template that writes these names itself (Qwen-Image 2.1) they stay words.
            conversation: Turns before this prompt, run in the same pass; their pictures count
                before the prompt's. `placed` holds for the words of each turn and its pictures.
            syntax: ComfyUI's prompt syntax: embeddings that the words name, and weights of words;
                None = `syntax` of this model, where that is None too every character is a letter.

        Returns:
            Hidden states, or a list of them in the order of several texts.

        Raises:
            ValueError: An unknown target or template, a picture that cannot be read, nothing to
                encode, a layer that does not exist, a name like `<image9>` without its picture, a
                conversation that waits for an answer.
            TypeError: A prompt that is not text.
        """
        inputs = PromptInputs(
            images, video, fps, target, template, system, edit,
            min_pixels, max_pixels, padding, mute, placed, conversation, syntax or self.syntax,
        )  # fmt: skip
        need_size(keep_mb, "keep_mb")
        goal = self._goal(inputs)
        texts = [text] if isinstance(text, str) else list(text)
        own = _one_each(inputs, texts) if not isinstance(text, str) else None
        seen = None if own else self._look(inputs, goal)
        states = []
        for number, one in enumerate(texts):
            shown = seen or self._look(own[number] if own else inputs, goal)
            prompt = self._prompt(one, inputs, goal, shown)
            made = states_of(self.engine, prompt, goal, keep_mb)
            plain = all(weight == 1.0 for weight in prompt.weights)
            states.append(made if plain else made.weigh(torch.tensor(prompt.weights)))
            if depth is not None:
                for each in states[-1].keyframes:
                    each.reach(depth)
        return states[0] if isinstance(text, str) else states

    @checked
    def rewrite(
        self,
        text: str,
        images: Any = None,
        *,
        target: str = "chat",
        system: str | None = None,
        max_tokens: int = MAX_TOKENS,
        temperature: float = 0.7,
        top_p: float = 0.8,
        top_k: int = 20,
        seed: int = 0,
        answer: str | None = None,
        template: str = "chat",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        keep_mb: float = 512,
        placed: bool = False,
        conversation: Conversation | None = None,
        edit: str | None = None,
        video: Any = None,
        fps: float = 24.0,
        padding: str = NONE,
        answers: int = 1,
        on_token: OnToken | None = None,
    ) -> Rewritten:
        """Has the model rewrite a prompt; the hidden states of its answer come from that pass.

        UniFusion's VERIFI (section 3.3).

        Args:
            text: What the person asks for. Special tokens in it stay ordinary text.
            images: As for `encode`; they stand before the text.
            target: The diffusion model that will read it (`vlm.targets`), or `chat`.
            system: What the model is told to do; None = `rewrite_prompts.SYSTEM_PROMPTS`' dense
                description, "" = none but what the chat template brings by itself.
            max_tokens: Most tokens generated, thinking included; at least 1.
            temperature: 0 = always the likeliest token.
            top_p: Only the likeliest tokens that reach this probability together; 1 = all.
            top_k: Only so many of the likeliest tokens; 0 = all.
            seed: Of the draws; of several answers the first one's, then one more each.
            answer: An answer to put there instead of generating one; its states are then run like
                those of `encode`.
            template: Layout; the model's own chat template is what it was trained to answer in.
                `raw` is for a model without one, which goes on with the text.
            min_pixels: Fewest pixels of a picture as the VLM sees it; None = the target's.
            max_pixels: Most pixels, likewise.
            keep_mb: Bound in MB (2**20 bytes) under which every layer is kept.
            placed: As for `encode`.
            conversation: As for `encode`.
            edit: As for `encode`.
            video: As for `encode`.
            fps: As for `encode`.
            padding: Pad tokens around prompt and answer, as for `encode`; they never cut the
                answer. They run after it was written, those in front with all the rest again.
            answers: How many answers to write, 1 to 16; prompt and pictures run once for all.
            on_token: Is given the ids of an answer so far, after each token; what it raises ends
                the run. `tokenizer.words_of` makes words of them.

        Returns:
            Hidden states of prompt, pictures and answer, and the answer's text; `others` are the
            next answers.

        Raises:
            ValueError: As for `encode`; nothing to rewrite, nothing written, a number outside its
                range, a model without LM head.
            TypeError: A prompt that is not text.
        """
        need_size(keep_mb, "keep_mb")
        wish = Wish(Sampling(temperature, top_p, top_k, seed), answers, max_tokens, on_token)
        told = find_system(DEFAULT) if system is None else system
        inputs = PromptInputs(
            images, video, fps, target, template, told, edit,
            min_pixels, max_pixels, NONE, (), placed, conversation,
        )  # fmt: skip
        goal, pad = self._goal(inputs), None
        if padding != NONE:
            goal, pad = self._behind(inputs, padding)
        seen = self._look(inputs, goal)
        if not seen.inputs and not str(text).strip():
            raise ValueError("There is nothing to rewrite: no prompt and no picture.")
        prompt = self._prompt(text, inputs, unpadded(goal), seen)
        engine, tokenizer = self.engine, self.tokenizer
        if answer is not None:
            return replay(engine, tokenizer, prompt, goal, answer, keep_mb, pad)
        return write(engine, tokenizer, self.stops, prompt, goal, wish, keep_mb, pad)

    def _behind(self, inputs: PromptInputs, padding: str) -> tuple[Target, Pad]:
        """The target with its own pad tokens, and what puts those around prompt and answer."""
        goal = self._goal(replace(inputs, padding=padding))
        chosen = choose_padding(padding, _layout(inputs, goal).padding, goal.pad_side)

        def pad(prompt: Prompt) -> Prompt:
            # All of it is known once it was written, so that pad tokens behind it run alone.
            whole = replace(prompt, prefix=prompt.real, shared=(*prompt.shared, prompt.real))
            padded = pad_prompt(whole, self.tokenizer, self.family, goal, chosen)
            return padded if len(padded.ids) > len(prompt.ids) else prompt

        return goal, pad

    def _look(self, inputs: PromptInputs, goal: Target) -> Looked:
        """Pictures and videos at the size the model sees them."""
        config = self.backbone.vision_config if self.family.has_vision else None
        looking = Looking(self.name, self.family, self.preprocessor, config)
        return looking.look(inputs, _layout(inputs, goal), goal)

    def _prompt(self, text: str, inputs: PromptInputs, goal: Target, seen: Looked) -> Prompt:
        """Lays one text and the pictures out."""
        if not isinstance(text, str) or not isinstance(inputs.system, str | None):
            kind = type(inputs.system if isinstance(text, str) else text).__name__
            raise TypeError(f"The prompt and the system prompt are text, one is a {kind}.")
        layout = _layout(inputs, goal)
        specials = self.tokenizer.specials
        messages = messages_of(layout, text, inputs, seen.turns, specials)
        system = inputs.system
        if system is None:
            system = layout.system_for(len(seen.inputs), text)
        pieces = render(
            layout, self.tokenizer, messages, system=valid_text(system), family=self.family
        )
        missing: tuple[str, ...] = ()
        if inputs.syntax is not None:
            read = read_syntax(pieces, inputs.syntax, goal, self.backbone.width, layout)
            pieces, missing = read.pieces, read.missing
        padding = choose_padding(inputs.padding, layout.padding, goal.pad_side)
        order = [part.number for said in messages for part in said.parts if not part.is_words]
        prompt = build_prompt(
            pieces, self.tokenizer, self.family, seen.inputs, goal, padding, order
        )
        prompt = pad_prompt(prompt, self.tokenizer, self.family, goal, padding)
        prompt = replace(prompt, missing=missing)
        if LOG.isEnabledFor(DEBUG):
            LOG.debug(
                "%s: template %s for %s, %s", self.name, layout.name, goal.name, _told(prompt)
            )
        return prompt

    def _goal(self, inputs: PromptInputs) -> Target:
        """The target, with the layer that a person chose on the model instead of its own."""
        goal = find_target(inputs.target)
        if inputs.padding == NONE:
            goal = unpadded(goal)
        if self._layer is None or goal.layers is None or goal.combine != "single":
            return goal
        chosen = (self._layer,)
        return replace(goal, layers=chosen, layers_with_images=chosen, final_norm=False)


def _layout(inputs: PromptInputs, goal: Target) -> Template:
    return find_template(inputs.template or goal.template)


def _one_each(inputs: PromptInputs, texts: Sequence[str]) -> list[PromptInputs] | None:
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


def _told(prompt: Prompt) -> str:
    """A prompt's ids for the log, runs of one id as `id x length`."""
    runs = [(one, len(list(same))) for one, same in groupby(prompt.ids)]
    words = (str(one) if length == 1 else f"{one} x {length}" for one, length in runs)
    return f"{len(prompt.ids)} ids [{', '.join(words)}]"
