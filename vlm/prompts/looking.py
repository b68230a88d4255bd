"""What is shown with a prompt and the turns before it: as large as the model sees, as it hears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ..families import Family
from ..pictures.picture_inputs import to_pictures
from ..pictures.preprocessor import Preprocessor, VisionInput
from ..sounds.preprocessor import SoundInput, SoundPreprocessor
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
        turns: Which of them, and of the sounds, each turn has, the prompt's last.
        sounds: Sounds of all turns.
    """

    inputs: list[VisionInput]
    turns: list[Seen]
    sounds: list[SoundInput]


@dataclass(frozen=True)
class Looking:
    """How a model looks at pictures, and hears.

    Attributes:
        name: What messages call the model.
        family: How its family sees.
        preprocessor: Its preprocessing; None where it cannot see.
        vision_config: What `VisionAdapter.video_time_step` reads; None where it cannot see.
        hearing: Its preprocessing of sounds; None where it cannot hear.
    """

    name: str
    family: Family
    preprocessor: Preprocessor | None
    vision_config: Any
    hearing: SoundPreprocessor | None = None

    def look(self, inputs: PromptInputs, layout: Template, goal: Target) -> Looked:
        """Prepares what every turn shows.

        Args:
            inputs: Pictures, video, sounds and conversation, and the bounds of their sizes.
            layout: The template, which may bound them as well.
            goal: The target, likewise.

        Raises:
            ValueError: A picture or sound that cannot be read, a model that does not see or hear,
                a target that takes none or fewer, a number in `mute` that no picture has.
        """
        turns = answered_turns(inputs.conversation)
        each = [
            replace(
                inputs, images=t.images, video=t.video, fps=t.fps, audio=t.audio,
                audio_in_video=t.audio_in_video,
            )
            for t in turns
        ]  # fmt: skip
        each.append(inputs)
        looked = self._see(each, inputs, layout, goal)
        sounds: list[SoundInput] = []
        for number, one in enumerate(each):
            heard = self._hear(one.audio)
            there = range(len(sounds), len(sounds) + len(heard))
            own = there[0] if self._has_own_sound(one, heard) else None
            looked.turns[number] = replace(looked.turns[number], sounds=there, own_sound=own)
            sounds += heard
        return replace(looked, sounds=sounds)

    def _has_own_sound(self, inputs: PromptInputs, heard: Sequence[SoundInput]) -> bool:
        """Whether the first sound of a turn is that of its video."""
        if not inputs.audio_in_video:
            return False
        if inputs.video is None or not heard:
            lack = "`video`" if inputs.video is None else "`audio`"
            raise ValueError(
                f"`audio_in_video` puts a sound between the frames of a video, and {lack} is not "
                "given. Give both, or leave `audio_in_video` off."
            )
        return True

    def _see(
        self, each: Sequence[PromptInputs], inputs: PromptInputs, layout: Template, goal: Target
    ) -> Looked:
        """The pictures and videos of every turn."""
        if self.preprocessor is None or self.family.vision is None:
            if any(one.video is not None or not _is_none(one.images) for one in each):
                raise ValueError(self._is_blind())
            return Looked(_mute([], inputs.mute), [Seen() for _ in each], [])
        # As they were given: ComfyUI's preprocessing reads all bits of an IMAGE.
        given = [one.images for one in each if one.images is not None]
        made = self._pictures(given, inputs, layout, goal)
        several = len(each) > 1
        counts = [len(to_pictures(one.images)) for one in each] if several else [len(made)]
        pictures = iter(made)
        seen: list[VisionInput] = []
        counted = []
        for one, count in zip(each, counts, strict=True):
            images = range(len(seen), len(seen) + count)
            seen += islice(pictures, count)
            if one.video is not None:
                seen.append(self._film(one, layout, goal))
            counted.append(Seen(images, None if one.video is None else len(seen) - 1))
        return Looked(_mute(seen, inputs.mute), counted, [])

    def _hear(self, audio: Any) -> list[SoundInput]:
        """One turn's sounds."""
        if _is_none(audio):
            return []
        if self.hearing is None:
            raise ValueError(
                f"{self.name} ({self.family.title}) does not hear, and a sound was given. Leave "
                "`audio` out, or load Qwen2.5-Omni."
            )
        return self.hearing.prepare(audio)

    def _pictures(
        self, pictures: Any, inputs: PromptInputs, layout: Template, goal: Target
    ) -> list[VisionInput]:
        """The pictures of all turns: some families look at one closer than at several."""
        least = inputs.min_pixels or goal.min_pixels
        most = inputs.max_pixels or layout.max_pixels or goal.max_pixels
        if goal.resize is not None and least is not None and most is not None:
            if not inputs.min_pixels:
                least = min(least, most)
            seen = self._prepare.prepare_resized(pictures, goal.resize, least, most)
        else:
            seen = self._prepare.prepare_images(pictures, least, most)
        if 0 < goal.most_pictures < len(seen):
            raise ValueError(
                f"{goal.title} takes at most {goal.most_pictures} pictures, {len(seen)} were "
                "given. Give fewer."
            )
        return seen

    def _film(self, inputs: PromptInputs, layout: Template, goal: Target) -> VisionInput:
        """One turn's video."""
        vision = self.family.vision
        if goal.about_video:
            raise ValueError(f"{goal.about_video}. Give single frames as `images`.")
        if vision is None or not vision.video:
            raise ValueError(self._takes_no_video())
        most = inputs.max_pixels or layout.video_max_pixels
        film = self._prepare.prepare_video(
            inputs.video, inputs.fps, layout.sample_fps, inputs.min_pixels, most
        )
        step = vision.video_time_step(film.seconds_per_grid, self.vision_config)
        return replace(film, time_step=step)

    @property
    def _prepare(self) -> Preprocessor:
        """The preprocessing of a model that sees."""
        if self.preprocessor is None:
            raise ValueError(self._is_blind())
        return self.preprocessor

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


def _is_none(given: Any) -> bool:
    """Whether nothing was given, as far as a model that does not see or hear has to know."""
    return given is None or (isinstance(given, list) and not given)


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
