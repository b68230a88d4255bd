"""A loaded VLM: prompts in, hidden states out, with everything before the text reused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .backbone import Backbone
from .families import Family
from .fingerprint import fingerprint
from .hidden_states import HiddenStates
from .host import Host
from .padding import AUTO, NONE, choose_padding
from .prefix_cache import PrefixCache
from .prompt import Prompt, build_prompt, render
from .recall import Recall
from .run import Run
from .targets import Target, find_target
from .templates import Template, find_template
from .tokenizer import Tokenizer
from .visuals import Visual, VisualRules, see_images, see_video

if TYPE_CHECKING:
    from .disk_cache import DiskCache


class VLM:
    """A vision-language model as an encoder.

    Attributes:
        name: What messages call it.
        family: What its family does its own way.
        backbone: The weights, layer by layer.
        host: Who moves the weights and shows progress.
        prefix_cache: What is known of the beginnings of prompts.
    """

    def __init__(
        self,
        name: str,
        family: Family,
        tokenizer: Tokenizer,
        rules: VisualRules,
        backbone: Backbone,
        host: Host | None = None,
        prefix_cache_mb: float = 1024,
        *,
        see: Callable[..., list[Visual]] = see_images,
        layer: int | None = None,
        disk_cache: DiskCache | None = None,
    ):
        """Puts the parts together; `vlm.load` reads them from a folder.

        Args:
            name: What messages call it.
            family: Its family.
            tokenizer: Its tokenizer.
            rules: Its preprocessing.
            backbone: Its weights.
            host: Who moves the weights and shows progress; None = they stay where they are.
            prefix_cache_mb: Bound of the prefix cache, MB (2**20 bytes).
            see: Turns pictures into what the vision tower takes, as `visuals.see_images` does.
            layer: Layer (without final norm) that a person chose instead of a target's single one.
            disk_cache: Keeps the layers asked for beyond this process; None = nothing is kept.
        """
        self.name = name
        self.family = family
        self.tokenizer = tokenizer
        self.rules = rules
        self.backbone = backbone
        self.host = host or Host()
        self.prefix_cache = PrefixCache(prefix_cache_mb)
        self._see_images = see
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
    ) -> HiddenStates | list[HiddenStates]:
        """Prepares the hidden states of a prompt; layers run when they are asked for.

        Args:
            text: The prompt, or several, each of which gets the same pictures. Special tokens
                in it stay ordinary text.
            images: PIL images, float tensors [H, W, C] or [B, H, W, C] in 0..1, or a list of
                these; they stand before the text in their order. A batch is several pictures.
            target: The diffusion model that will read it (`vlm.targets`), or `chat`.
            template: Layout (`vlm.templates`); None = the target's.
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
        visuals = self._see(images, video, fps, (min_pixels, max_pixels), layout, goal)
        states = []
        for one in [text] if isinstance(text, str) else _several(text):
            if not isinstance(one, str) or not isinstance(system, str | None):
                kind = type(system if isinstance(one, str) else one).__name__
                raise TypeError(f"The prompt and the system prompt are text, one is a {kind}.")
            pieces = render(
                layout,
                self.tokenizer,
                one,
                system=system,
                edit=edit,
                visuals=visuals,
                family=self.family,
            )
            prompt = build_prompt(pieces, self.tokenizer, self.family, visuals, goal, pad)
            states.append(self._states(prompt, goal, keep_mb))
            if depth is not None:
                for each in states[-1].keyframes:
                    each.reach(depth)
        return states[0] if isinstance(text, str) else states

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

    def _states(self, prompt: Prompt, goal: Target, keep_mb: float) -> HiddenStates:
        """Hidden states of a prompt, with those of later versions of the weights."""
        first, *later = (
            HiddenStates(self, prompt, goal, keep_mb, keyframe)
            for keyframe in range(len(self.host.keyframes))
        )
        first.add_keyframes(later)
        return first

    def _see(
        self,
        images: Any,
        video: Any,
        fps: float,
        pixels: tuple[int | None, int | None],
        template: Template,
        target: Target,
    ) -> list[Visual]:
        """Pictures, then the video, at the size the model sees them."""
        if not self.family.sees:
            if images is None and video is None or images == []:
                return []
            raise ValueError(self._is_blind())
        least = pixels[0] or target.min_pixels
        most = pixels[1] or template.max_pixels or target.max_pixels
        visuals = self._see_images(images, self.rules, least, most)
        if video is not None:
            most = pixels[1] or template.video_max_pixels
            seen = see_video(video, fps, self.rules, template.sample_fps, pixels[0], most)
            step = self.family.video_time_step(seen.seconds_per_grid, self.backbone.vision_config)
            visuals.append(replace(seen, time_step=step))
        return visuals

    def run(self, states: HiddenStates, wanted: Sequence[int]) -> None:
        """Runs `states` to the layers asked for; called by them when a layer is not held.

        Args:
            states: Of this model.
            wanted: Missing layer indices, ascending, origin 0.
        """
        missing = wanted if self._recall is None else self._recall.fetch(states, wanted)
        if not missing:
            return
        Run(self, states, missing).go()
        if self._recall is not None:
            self._recall.store(states, missing)

    @cached_property
    def _recall(self) -> Recall | None:
        """What of this model is on disk; None where nothing is kept."""
        if self._disk_cache is None or self.host.patches is None:
            return None
        return Recall(self._disk_cache, fingerprint(self.backbone, self.host.patches))


def _several(texts: Any) -> list[Any]:
    if isinstance(texts, Sequence):
        return list(texts)
    raise TypeError(f"The prompt is text, or a list of texts; this is a {type(texts).__name__}.")
