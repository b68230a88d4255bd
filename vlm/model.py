"""A loaded VLM: prompts in, hidden states out, with everything before the text reused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch

from .arguments import checked, need_size
from .families import Family
from .pictures.preprocessor import Preprocessor
from .prompting import Prompting, one_each
from .prompts.conversation import Conversation
from .prompts.inputs import PromptInputs
from .prompts.padding import AUTO, NONE
from .prompts.prompt import unpadded
from .prompts.prompt_syntax import PromptSyntax
from .prompts.rewrite_prompts import DEFAULT, find_system
from .prompts.tokenizer import Tokenizer
from .running.backbone import Backbone
from .running.engine import Engine
from .running.hidden_states import HiddenStates, states_of
from .running.host import Host
from .running.prefix_cache import PrefixCache
from .running.rewrite import MAX_TOKENS, Rewritten, Wish, replay, write
from .running.sampling import Sampling
from .running.writing import OnToken
from .sounds.preprocessor import SoundPreprocessor


class VLM:
    """A vision-language model as an encoder, and as a rewriter of prompts.

    Attributes:
        engine: Weights, surroundings and caches.
        tokenizer: Its tokenizer.
        preprocessor: Its preprocessing of pictures; None where it cannot see.
        hearing: Its preprocessing of sounds; None where it cannot hear.
        stops: Ids of the tokens that end an answer.
        syntax: What characters of a prompt mean beyond themselves where `encode` is not told.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        preprocessor: Preprocessor | None,
        *,
        hearing: SoundPreprocessor | None = None,
        layer: int | None = None,
        stops: frozenset[int] | None = None,
        syntax: PromptSyntax | None = None,
    ):
        """Puts the parts together; `vlm.load` reads them from a folder.

        Args:
            engine: Weights, surroundings and caches.
            tokenizer: Its tokenizer.
            preprocessor: Its preprocessing of pictures; None where it cannot see.
            hearing: Its preprocessing of sounds; None where it cannot hear.
            layer: Layer (without final norm) that a person chose instead of a target's single one.
            stops: Ids of the tokens that end an answer, beside the family's; None = the
                tokenizer's own.
            syntax: What characters of a prompt mean beyond themselves; None = nothing.
        """
        self.engine = engine
        self.tokenizer = tokenizer
        self.preprocessor = preprocessor
        self.hearing = hearing
        own = tokenizer.stops if stops is None else stops
        self.stops = own | tokenizer.find(*engine.family.stop_tokens)
        self.syntax = syntax
        self._prompting = Prompting(engine, tokenizer, preprocessor, hearing, layer)

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
        audio: Any = None, audio_in_video: bool = False,
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
        audio: Any = None, audio_in_video: bool = False,
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
        audio: Any = None,
        audio_in_video: bool = False,
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
            audio: Sounds, for a model that hears: a mapping with `waveform` (float -1..1, [T],
                [C, T] or [B, C, T]) and `sample_rate`, as ComfyUI's AUDIO; (samples, rate); a path;
                or a list of these. They stand behind pictures and video.
            audio_in_video: Whether the first sound is that of `video`: its tokens then stand
                between the frames' tokens, two seconds of each at a time.

        Returns:
            Hidden states, or a list of them in the order of several texts.

        Raises:
            ValueError: An unknown target or template, a picture or sound that cannot be read,
                nothing to encode, a layer that does not exist, a name like `<image9>` without its
                picture, a conversation that waits for an answer.
            TypeError: A prompt that is not text.
        """
        inputs = PromptInputs(
            images, video, fps, target, template, system, edit, min_pixels, max_pixels, padding,
            mute, placed, conversation, syntax or self.syntax, audio, audio_in_video,
        )  # fmt: skip
        need_size(keep_mb, "keep_mb")
        prompting = self._prompting
        goal = prompting.find_goal(inputs)
        texts = [text] if isinstance(text, str) else list(text)
        own = one_each(inputs, texts) if not isinstance(text, str) else None
        seen = None if own else prompting.look(inputs, goal)
        states = []
        for number, one in enumerate(texts):
            shown = seen or prompting.look(own[number] if own else inputs, goal)
            prompt = prompting.lay_out(one, inputs, goal, shown)
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
        audio: Any = None,
        audio_in_video: bool = False,
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
            audio: As for `encode`.
            audio_in_video: As for `encode`.
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
            min_pixels, max_pixels, NONE, (), placed, conversation, None, audio,
            audio_in_video,
        )  # fmt: skip
        prompting = self._prompting
        goal, pad = prompting.find_goal(inputs), None
        if padding != NONE:
            goal, pad = prompting.pad_behind(inputs, padding)
        seen = prompting.look(inputs, goal)
        if not seen.inputs and not seen.sounds and not str(text).strip():
            raise ValueError("There is nothing to rewrite: no prompt, no picture and no sound.")
        prompt = prompting.lay_out(text, inputs, unpadded(goal), seen)
        engine, tokenizer = self.engine, self.tokenizer
        if answer is not None:
            return replay(engine, tokenizer, prompt, goal, answer, keep_mb, pad)
        return write(engine, tokenizer, self.stops, prompt, goal, wish, keep_mb, pad)
