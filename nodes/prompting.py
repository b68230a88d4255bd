"""What every node that runs a prompt through a VLM has: words, pictures, their size."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from comfy_api.latest import io

from ..vlm.model import VLM
from ..vlm.prompts.conversation import Conversation as Talk
from ..vlm.prompts.layout import find_lack
from ..vlm.prompts.templates import CHAT, find_template
from .growing import has_other_shape, parts_of
from .sockets import Conversation, need

TARGETS_OWN, NAMED = "target's", "where named in the prompt"
MAX_PIXELS = 64 * 1024 * 1024
IMAGES, IMAGE = "images", "image"


def check_template(model: VLM, template: str, node: str) -> None:
    """Whether the model has what a template is made of.

    Args:
        model: The model.
        template: The widget's choice.
        node: The node's name.

    Raises:
        ValueError: It has no chat template, or not the tokens of Qwen's turns.
    """
    lack = find_lack(find_template(template), model.tokenizer)
    if lack:
        best = f"{CHAT}, the model's own layout" if model.tokenizer.chat_template else "raw"
        raise ValueError(
            f"{model.name} has no {lack}, which the template {template} is made of. Set "
            f"`template` on {node} to {best}."
        )


def prompt_input() -> io.Input:
    """The words."""
    return io.String.Input(
        "prompt",
        multiline=True,
        dynamic_prompts=True,
        tooltip="The words. Special tokens typed here stay ordinary text.",
    )


def images_input(least: int = 0) -> io.Input:
    """Pictures on sockets that grow: `images.image0`, `images.image1`, ...

    Args:
        least: Fewest that must be connected.
    """
    return io.Autogrow.Input(IMAGES, template=_each_image(least), optional=not least)


@functools.cache
def _each_image(least: int) -> io.Autogrow.TemplatePrefix:
    """Made once: ComfyUI asks for schemas at every check of a prompt, and these are 50 inputs."""
    return io.Autogrow.TemplatePrefix(
        io.Image.Input(IMAGE, tooltip="A picture, or a batch: several pictures."),
        prefix=IMAGE,
        min=least,
        max=50,
    )


def connected(images: dict[str, Any] | None) -> list[Any]:
    """The pictures of such sockets, in order, without their alpha, as ComfyUI's encoders take them.

    Raises:
        TypeError: Something else: over the API a text could name a file of this machine.
    """
    return [need_image(image, key) for key, image in parts_of(IMAGES, IMAGE, images)]


def has_odd_images(images: Any) -> str:
    """What is said, when a prompt is queued, of pictures in another shape; "" for none."""
    return has_other_shape(IMAGES, IMAGE, images)


def need_image(image: Any, socket: str) -> torch.Tensor:
    """An IMAGE that came over a wire, without its alpha.

    Raises:
        TypeError: Something else.
    """
    if not isinstance(image, torch.Tensor):
        raise TypeError(
            f"{socket} takes IMAGE, this is {type(image).__name__}. Connect Load Image or another "
            "node that gives IMAGE."
        )
    return image[..., :3] if image.ndim > 2 else image


def pixel_budget() -> list[io.Input]:
    """The bounds of a picture's area."""
    bound = {"default": 0, "min": 0, "max": MAX_PIXELS, "step": 1024}
    bound |= {"optional": True, "advanced": True}
    return [
        io.Int.Input(
            "min_pixels",
            tooltip="Fewest pixels of a picture as the VLM sees it; smaller ones are enlarged. "
            "0 = the target's own. Has nothing to do with the latent's size.",
            **bound,
        ),
        io.Int.Input(
            "max_pixels",
            tooltip="Most pixels of a picture as the VLM sees it; larger ones are shrunk. Each "
            "32x32 pixels (Qwen2-VL, Qwen2.5-VL and InternVL: 28x28) are one token; InternVL takes "
            "whole tiles of 448x448, Gemma 3 one size only. 0 = the target's own, 1 megapixel"
            ". Raise it for documents and screenshots.",
            **bound,
        ),
    ]


def video_inputs() -> list[io.Input]:
    """A video and how fast it runs."""
    return [
        io.Image.Input(
            "video",
            optional=True,
            tooltip="Frames of one video, in order. Comes after the pictures.",
        ),
        io.Float.Input(
            "fps",
            default=24.0,
            min=0.1,
            max=1000.0,
            step=0.1,
            optional=True,
            advanced=True,
            tooltip="Frames per second of `video`. The VLM looks at about 2 of them per second.",
        ),
    ]


def audio_inputs() -> list[io.Input]:
    """A sound, and where it stands."""
    return [
        io.Audio.Input(
            "audio",
            optional=True,
            tooltip="A sound, for a VLM that hears: Qwen2.5-Omni. Comes after pictures and video. "
            "25 tokens a second, at most five minutes.",
        ),
        io.Boolean.Input(
            "audio_in_video",
            default=False,
            optional=True,
            advanced=True,
            tooltip="Off = the sound comes after the video. On = it is the video's own: its tokens "
            "stand between the frames, two seconds of each at a time.",
        ),
    ]


def need_audio(audio: Any, node: str) -> Any:
    """An AUDIO that came over a wire, or None.

    Raises:
        TypeError: Something else.
    """
    if audio is None or (isinstance(audio, Mapping) and "waveform" in audio):
        return audio
    raise TypeError(
        f"audio on {node} takes AUDIO, this is {type(audio).__name__}. Connect Load Audio or "
        "another node that gives AUDIO."
    )


def editing_text_input() -> io.Input:
    """What X2I's templates say about editing."""
    return io.String.Input(
        "editing_text",
        default="",
        optional=True,
        advanced=True,
        tooltip="Editing text of the X2I templates; other templates do not read it. Style words "
        "need X2I's LoRA, which was trained with them. Empty = none.",
    )


def placement_input() -> io.Input:
    """Where pictures stand; `NAMED` is the choice beside the target's own way."""
    return io.Combo.Input(
        "image_placement",
        options=[TARGETS_OWN, NAMED],
        default=TARGETS_OWN,
        optional=True,
        advanced=True,
        tooltip="Where the pictures stand. target's = before the words, as its template has them; "
        "where named in the prompt = <image1> in the words is the first picture, <image2> the "
        "second. A picture that is not named stays before the words.",
    )


def conversation_input() -> io.Input:
    """Turns before the prompt."""
    return Conversation.Input(
        "conversation",
        optional=True,
        tooltip="From Conversation Turn: what was said before this prompt. Its tokens are part of "
        "the result; pictures are counted from its first one on.",
    )


def need_conversation(given: Any, node: str) -> Talk | None:
    """The conversation that came over a wire.

    Raises:
        TypeError: Something else.
    """
    if given is not None:
        need(given, Talk, f"conversation on {node}")
    return given
