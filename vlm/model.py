"""A loaded VLM: prompts in, hidden states out, with everything before the text reused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .families import Family
from .pictures.preprocessor import Preprocessor, VisionInput
from .prompts.layout import render
from .prompts.padding import AUTO, NONE, Padding, choose_padding
from .prompts.prompt import Prompt, build_prompt
from .prompts.rewrite_prompts import DEFAULT, find_system
from .prompts.templates import Template, find_template
from .prompts.tokenizer import Tokenizer
from .running.backbone import Backbone
from .running.disk_cache_view import DiskCacheView
from .running.fingerprint import fingerprint
from .running.hidden_states import HiddenStates
from .running.host import Host
from .running.prefix_cache import PrefixCache
from .running.rewrite import Rewritten, replay, write
from .running.run import Run
from .running.sampling import Sampling
from .targets import Target, find_target

if TYPE_CHECKING:
    from .running.disk_cache import DiskCache


class VLM:
    """A vision-language model as an encoder, and as a rewriter of prompts.

    Attributes:
        name: What messages call it.
        family: What its family does its own way.
        backbone: The weights, layer by layer.
        stops: Ids of the tokens that end an answer, beside the family's.
        host: Who moves the weights and shows progress.
        prefix_cache: What is known of the beginnings of prompts.
    """

    def __init__(
        self,
        name: str,
        family: Family,
        tokenizer: Tokenizer,
        preprocessor: Preprocessor | None,
        backbone: Backbone,
        host: Host | None = None,
        prefix_cache_mb: float = 1024,
        *,
        layer: int | None = None,
        disk_cache: DiskCache | None = None,
        stops: frozenset[int] | None = None,
    ):
        """Puts the parts together; `vlm.load` reads them from a folder.

        Args:
            name: What messages call it.
            family: Its family.
            tokenizer: Its tokenizer.
            look: Its preprocessing; None where it cannot see.
            backbone: Its weights.
            host: Who moves the weights and shows progress; None = they stay where they are.
            prefix_cache_mb: Bound of the prefix cache, MB (2**20 bytes).
            layer: Layer (without final norm) that a person chose instead of a target's single one.
            disk_cache: Keeps the layers asked for beyond this process; None = nothing is kept.
            stops: Ids of the tokens that end an answer, beside the family's; None = the
                tokenizer's own.
        """
        self.name = name
        self.family = family
        self.tokenizer = tokenizer
        self.preprocessor = preprocessor
        self.backbone = backbone
        self.stops = tokenizer.stops if stops is None else stops
        self.host = host or Host()
        self.prefix_cache = PrefixCache(prefix_cache_mb)
        self._layer = layer
        self._disk_cache = disk_cache
        self.host.attach(backbone)

    @property
    def patcher(self) -> Any:
        """What ComfyUI's caches recognise a model by; None outside ComfyUI."""
        return self.host.patcher

    @property
    def num_layers(self) -> int:
        """L: decoder layers and the embeddings."""
        return self.backbone.num_decoder_layers + 1

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
    ) -> HiddenStates | list[HiddenStates]:
        """Prepares the hidden states of a prompt; layers run when they are asked for.

        Args:
            text: The prompt, or several, each of which gets the same pictures. Special tokens
                in it stay ordinary text.
            images: PIL images, float tensors [H, W, C] or [B, H, W, C] in 0..1, or a list of
                these; they stand before the text in their order. A batch is several pictures.
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
            padding: `auto` = as the target was trained; `left` = pad tokens in front, to the
                template's length or 512; `none` = no pad token anywhere.
            mute: Numbers (origin 0, a video last) of pictures that the model does not see: their
                tokens stay where they are, as plain placeholders.

        Returns:
            Hidden states, or a list of them in the order of several texts.

        Raises:
            ValueError: An unknown target or template, a picture that cannot be read, nothing to
                encode, a layer that does not exist.
            TypeError: A prompt that is not text.
        """
        goal = self._goal(target)
        layout = find_template(template or goal.template)
        pad = choose_padding(padding, layout.padding, goal.pad_side)
        if padding == NONE:
            goal = replace(goal, pad_to=0)
        vision_inputs = self._prepare_vision(
            images, video, fps, (min_pixels, max_pixels), layout, goal
        )
        for number in mute:
            vision_inputs[number] = replace(vision_inputs[number], muted=True)
        states = []
        for one in [text] if isinstance(text, str) else _several(text):
            prompt = self._prompt(one, layout, goal, vision_inputs, system, edit, pad)
            states.append(self.states_of(prompt, goal, keep_mb))
            if depth is not None:
                for each in states[-1].keyframes:
                    each.reach(depth)
        return states[0] if isinstance(text, str) else states

    def rewrite(
        self,
        text: str,
        images: Any = None,
        *,
        target: str = "chat",
        system: str | None = None,
        max_tokens: int = 256,
        temperature: float = 0.7,
        top_p: float = 0.8,
        top_k: int = 20,
        seed: int = 0,
        answer: str | None = None,
        template: str = "chat",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        keep_mb: float = 512,
    ) -> Rewritten:
        """Has the model rewrite a prompt; the hidden states of its answer come from that pass.

        UniFusion's VERIFI (section 3.3). Nothing is padded.

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
            seed: Of the draws.
            answer: An answer to put there instead of generating one; its states are then run like
                those of `encode`.
            template: Layout; the model's own chat template is what it was trained to answer in.
                `raw` is for a model without one, which goes on with the text.
            min_pixels: Fewest pixels of a picture as the VLM sees it; None = the target's.
            max_pixels: Most pixels, likewise.
            keep_mb: Bound in MB (2**20 bytes) under which every layer is kept.

        Returns:
            Hidden states of prompt, pictures and answer, and the answer's text.

        Raises:
            ValueError: As for `encode`; nothing to rewrite, nothing written, a number outside its
                range, a model without LM head.
            TypeError: A prompt that is not text.
        """
        sampling = Sampling(temperature, top_p, top_k, seed)
        goal, layout = replace(self._goal(target), pad_to=0), find_template(template)
        vision_inputs = self._prepare_vision(
            images, None, 1.0, (min_pixels, max_pixels), layout, goal
        )
        if not vision_inputs and not str(text).strip():
            raise ValueError("There is nothing to rewrite: no prompt and no picture.")
        if system is None:
            system = find_system(DEFAULT)
        prompt = self._prompt(text, layout, goal, vision_inputs, system, None, None)
        if answer is not None:
            return replay(self, prompt, goal, answer, keep_mb)
        return write(self, prompt, goal, sampling, max_tokens, keep_mb)

    def _prompt(
        self,
        text: str,
        layout: Template,
        goal: Target,
        vision_inputs: Sequence[VisionInput],
        system: str | None,
        edit: str | None,
        pad: Padding | None,
    ) -> Prompt:
        """Lays one text and the pictures out."""
        if not isinstance(text, str) or not isinstance(system, str | None):
            kind = type(system if isinstance(text, str) else text).__name__
            raise TypeError(f"The prompt and the system prompt are text, one is a {kind}.")
        pieces = render(
            layout,
            self.tokenizer,
            text,
            system=system,
            edit=edit,
            vision_inputs=vision_inputs,
            family=self.family,
        )
        return build_prompt(pieces, self.tokenizer, self.family, vision_inputs, goal, pad)

    def _goal(self, name: str) -> Target:
        """The target, with the layer that a person chose on the model instead of its own."""
        goal = find_target(name)
        if self._layer is None or goal.layers is None or goal.combine != "single":
            return goal
        chosen = (self._layer,)
        return replace(goal, layers=chosen, layers_with_images=chosen, final_norm=False)

    def _is_blind(self) -> str:
        return (
            f"{self.name} reads text only, pictures or a video were given. Use a model with eyes: "
            "in Load CLIP a Qwen2.5-VL file (qwen_2.5_vl_7b_fp8_scaled.safetensors) with type "
            "qwen_image or a Qwen3-VL-4B file (qwen3vl_4b_fp8_scaled.safetensors) with type krea2, "
            "or a Qwen-VL model on VLM Loader."
        )

    def _takes_no_video(self) -> str:
        return (
            f"{self.name} ({self.family.title}) takes pictures, not videos. Connect single frames "
            "as images, or use a Qwen-VL or InternVL model on VLM Loader."
        )

    def states_of(self, prompt: Prompt, goal: Target, keep_mb: float) -> HiddenStates:
        """Hidden states of a prompt, with those of later versions of the weights."""
        first, *later = (
            HiddenStates(self, prompt, goal, keep_mb, keyframe)
            for keyframe in range(len(self.host.keyframes))
        )
        first.add_keyframes(later)
        return first

    def _prepare_vision(
        self,
        images: Any,
        video: Any,
        fps: float,
        pixels: tuple[int | None, int | None],
        template: Template,
        target: Target,
    ) -> list[VisionInput]:
        """Pictures, then the video, at the size the model sees them."""
        if self.preprocessor is None:
            if images is None and video is None or images == []:
                return []
            raise ValueError(self._is_blind())
        least = pixels[0] or target.min_pixels
        most = pixels[1] or template.max_pixels or target.max_pixels
        vision_inputs = self.preprocessor.prepare_images(images, least, most)
        if video is not None:
            most = pixels[1] or template.video_max_pixels
            if not self.family.vision.video:
                raise ValueError(self._takes_no_video())
            seen = self.preprocessor.prepare_video(video, fps, template.sample_fps, pixels[0], most)
            step = self.family.vision.video_time_step(
                seen.seconds_per_grid, self.backbone.vision_config
            )
            vision_inputs.append(replace(seen, time_step=step))
        return vision_inputs

    def run(self, states: HiddenStates, wanted: Sequence[int]) -> None:
        """Runs `states` to the layers asked for; called by them when a layer is not held.

        Args:
            states: Of this model.
            wanted: Missing layer indices, ascending, origin 0.
        """
        missing = wanted if self._disk_view is None else self._disk_view.fetch(states, wanted)
        if not missing:
            return
        Run(self, states, missing).go()
        if self._disk_view is not None:
            self._disk_view.store(states, missing)

    @cached_property
    def _disk_view(self) -> DiskCacheView | None:
        """What of this model is on disk; None where nothing is kept."""
        if self._disk_cache is None or self.host.patches is None:
            return None
        return DiskCacheView(self._disk_cache, fingerprint(self.backbone, self.host.patches))


def _several(texts: Any) -> list[Any]:
    if isinstance(texts, Sequence):
        return list(texts)
    raise TypeError(f"The prompt is text, or a list of texts; this is a {type(texts).__name__}.")
