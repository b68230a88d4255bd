"""Pictures and videos of a prompt and of the turns before it, at the size the model sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..families import Family
from ..pictures.preprocessor import Preprocessor, VisionInput
from ..targets import Target
from .conversation import answered_turns
from .inputs import PromptInputs
from .messages import Seen
from .templates import Template


@dataclass(frozen=True)
class Looked:
    """What the model will see.

    Attributes:
        inputs: Pictures and videos of all turns, each turn's video after its pictures.
        turns: Which of them each turn has, the prompt's last.
    """

    inputs: list[VisionInput]
    turns: list[Seen]


@dataclass(frozen=True)
class Looking:
    """How a model looks at pictures.

    Attributes:
        name: What messages call the model.
        family: How its family sees.
        preprocessor: Its preprocessing; None where it cannot see.
        vision_config: Settings of its vision tower; None where it has none.
    """

    name: str
    family: Family
    preprocessor: Preprocessor | None
    vision_config: Any

    def look(self, inputs: PromptInputs, layout: Template, goal: Target) -> Looked:
        """Prepares the pictures of every turn.

        Args:
            inputs: Pictures, video and conversation, and the bounds of their sizes.
            layout: The template, which may bound them as well.
            goal: The target, likewise.

        Raises:
            ValueError: A picture that cannot be read, a model that does not see, a target that
                takes none or fewer, a number in `mute` that no picture has.
        """
        turns = answered_turns(inputs.conversation)
        each = [replace(inputs, images=t.images, video=t.video, fps=t.fps) for t in turns]
        seen: list[VisionInput] = []
        counted = []
        for one in (*each, inputs):
            shown = self._look_at(one, layout, goal)
            films = one.video is not None
            end = len(seen) + len(shown)
            counted.append(Seen(range(len(seen), end - films), end - 1 if films else None))
            seen += shown
        images = sum(len(turn.images) for turn in counted)
        if 0 < goal.most_pictures < images:
            raise ValueError(
                f"{goal.title} takes at most {goal.most_pictures} pictures, {images} were "
                "given. Give fewer."
            )
        return Looked(_mute(seen, inputs.mute), counted)

    def _look_at(self, inputs: PromptInputs, layout: Template, goal: Target) -> list[VisionInput]:
        """One turn's pictures, then its video."""
        images, video = inputs.images, inputs.video
        vision = self.family.vision
        if self.preprocessor is None or vision is None:
            if video is None and (images is None or images == []):
                return []
            raise ValueError(self._is_blind())
        if video is not None and goal.about_video:
            raise ValueError(f"{goal.about_video}. Give single frames as `images`.")
        least = inputs.min_pixels or goal.min_pixels
        most = inputs.max_pixels or layout.max_pixels or goal.max_pixels
        if goal.resize is not None and least is not None and most is not None:
            if not inputs.min_pixels:
                least = min(least, most)
            seen = self.preprocessor.prepare_resized(images, goal.resize, least, most)
        else:
            seen = self.preprocessor.prepare_images(images, least, most)
        if video is not None:
            if not vision.video:
                raise ValueError(self._takes_no_video())
            most = inputs.max_pixels or layout.video_max_pixels
            film = self.preprocessor.prepare_video(
                video, inputs.fps, layout.sample_fps, inputs.min_pixels, most
            )
            step = vision.video_time_step(film.seconds_per_grid, self.vision_config)
            seen.append(replace(film, time_step=step))
        return seen

    def _is_blind(self) -> str:
        return (
            f"{self.name} reads text only, pictures or a video were given. Use a model with "
            "eyes: a Qwen-VL model with `load`, or in ComfyUI's Load CLIP a Qwen2.5-VL file "
            "(qwen_2.5_vl_7b_fp8_scaled.safetensors) with type qwen_image or a Qwen3-VL-4B file "
            "(qwen3vl_4b_fp8_scaled.safetensors) with type krea2."
        )

    def _takes_no_video(self) -> str:
        return (
            f"{self.name} ({self.family.title}) takes pictures, not videos. Give single frames as "
            "`images`, or use a Qwen-VL or InternVL model with `load`."
        )


def _mute(seen: list[VisionInput], numbers: Sequence[int]) -> list[VisionInput]:
    """Pictures, some of them such that the model does not see them."""
    for number in numbers:
        if not 0 <= number < len(seen):
            there = f"0 to {len(seen) - 1}" if seen else "none"
            raise ValueError(
                f"`mute` names picture {number}, there are {there}. Name one of these."
            )
    return [
        replace(each, muted=True) if number in numbers else each for number, each in enumerate(seen)
    ]
