"""What one family of models does its own way, as data plus a few small functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .decoder import Decoder

if TYPE_CHECKING:
    from ..pictures.preprocessor import Preprocessor, VisionInput
    from ..sounds.preprocessor import SoundInput, SoundPreprocessor

Place = tuple[int, int, int]  # tile, row, column
VisionFeatures = tuple[torch.Tensor, list[torch.Tensor]]


@dataclass(frozen=True)
class SingleFileDefaults:
    """What the config.json files of a family's published models say and tensors do not tell.

    Attributes:
        sizes: Name and decoder layers of each published model, by the width of its language model.
        text: Settings of the language model.
        text_nested: They stand in `text_config`; else at the top of config.json.
        head_dim: Width of one attention head of the language model.
        vision: Settings of every vision tower.
        towers: Settings of a vision tower by its width.
        preprocessor: Content of preprocessor_config.json where it differs from the family's
            defaults.
    """

    sizes: dict[int, tuple[str, int]]
    text: dict[str, Any]
    text_nested: bool
    head_dim: int
    vision: dict[str, Any]
    towers: dict[int, dict[str, Any]]
    preprocessor: dict[str, Any]


def grid_alone(vision_input: VisionInput, frame: int) -> Iterable[Place | str]:
    """The layout of a picture whose tokens stand one behind the other; see `VisionAdapter`."""
    return vision_input.places(frame)


def patch_inputs(vision_inputs: Sequence[VisionInput]) -> dict[str, torch.Tensor]:
    """What `forward` takes of patches and their grids; see `VisionAdapter.forward_inputs`."""
    inputs = {}
    for kind, suffix in (("image", ""), ("video", "_videos")):
        seen = [one.patches() for one in vision_inputs if one.is_video == (kind == "video")]
        if seen:
            inputs["pixel_values" + suffix] = torch.cat([one.pixels for one in seen])
            inputs[f"{kind}_grid_thw"] = torch.tensor([one.grid for one in seen])
    return inputs


def picture_inputs(vision_inputs: Sequence[VisionInput]) -> dict[str, torch.Tensor]:
    """What `forward` takes of towers that take whole pictures or tiles, frames among them."""
    if not vision_inputs:
        return {}
    return {"pixel_values": torch.cat([one.patches().pixels for one in vision_inputs])}


@dataclass(frozen=True)
class VisionAdapter:
    """How the models of a family see.

    Attributes:
        modules: The modules of transformers' base model that see, in the order they run.
        features: (base model, pixels [P, ...], grid) to features [n, D], and one [n, D] for each
            DeepStack level; see `Backbone.encode_vision`. n counts every image token of the layout.
        read_preprocessor: Reads a folder's preprocessor files: (folder, content of config.json).
        prepare: Changes a freshly built base model in place.
        layout: What stands for a frame (origin 0) of a picture, in order: the place of a token on
            the picture's grid, or the text of a marker between rows or tiles, in which special
            tokens are special. A marker that is the image token takes a feature as well, as a
            trained line end does. Default: the grid's tokens alone.
        forward_inputs: What the `forward` of transformers' own class takes for a prompt's pictures,
            by name; the tests feed it. Default: patches and their grids.
        video: Whether it takes videos.
        frame_text: Where each group of video frames is a block of its own, the text before it, by
            its number (origin 0) and its time in seconds; None = a video is one block.
        video_time_step: Seconds per grid step and `settings` to the step of the temporal position
            between two frames of one block.
        settings: The base model's config to the part of it that `video_time_step` reads.
        start: Token before a picture's tokens; "" = none, or the layout has it.
        end: Token after them; "" likewise.
        image_token: Token that a picture's features replace.
        video_token: Token that stands for a video in a template.
        frame_token: Token that a video's features replace.
        in_chat: What the chat template writes for a picture, and what that stands for; None = it
            writes start, image token and end itself.
    """

    modules: tuple[str, ...]
    features: Callable[[Any, torch.Tensor, tuple[int, ...]], VisionFeatures]
    read_preprocessor: Callable[[Path, dict[str, Any]], Preprocessor]
    prepare: Callable[[Any], None] = lambda model: None
    # Of the kind of VisionInput that its own preprocessor makes.
    layout: Callable[[Any, int], Iterable[Place | str]] = grid_alone
    forward_inputs: Callable[[Sequence[Any]], dict[str, torch.Tensor]] = patch_inputs
    video: bool = True
    frame_text: Callable[[int, float], str] | None = None
    video_time_step: Callable[[float, Any], float] = lambda seconds, vision: 1.0
    settings: Callable[[Any], Any] = lambda config: getattr(config, "vision_config", None)
    start: str = "<|vision_start|>"
    end: str = "<|vision_end|>"
    image_token: str = "<|image_pad|>"
    video_token: str = "<|video_pad|>"
    frame_token: str = "<|video_pad|>"
    in_chat: tuple[str, str] | None = None

    @property
    def frames_apart(self) -> bool:
        """Whether each group of video frames is a block of its own."""
        return self.frame_text is not None


@dataclass(frozen=True)
class AudioAdapter:
    """How the models of a family hear.

    Attributes:
        modules: The modules of transformers' base model that hear.
        features: (base model, log-mel spectrum [mel, frames]) to features [n, D], one a token.
        read_preprocessor: Reads a folder's preprocessor files.
        forward_inputs: What the `forward` of transformers' own class takes for a prompt's sounds,
            by name; the tests feed it.
        film_step: `VisionAdapter.settings` to the tokens of a sound that stand between frames of
            its video at a time.
        token: Token that a sound's features replace.
        start: Token before a sound's tokens.
        end: Token after them.
    """

    modules: tuple[str, ...]
    features: Callable[[Any, torch.Tensor], torch.Tensor]
    read_preprocessor: Callable[[Path], SoundPreprocessor]
    forward_inputs: Callable[[Sequence[SoundInput]], dict[str, torch.Tensor]]
    film_step: Callable[[Any], int]
    token: str
    start: str
    end: str

    @property
    def block(self) -> str:
        """What stands for a sound in a layout."""
        return self.start + self.token + self.end


@dataclass(frozen=True)
class Family:
    """Models that share an architecture, a tokenizer layout and a processor.

    Attributes:
        title: The name people know, for messages.
        model_type: `model_type` in config.json.
        architecture: Class in transformers that loads the checkpoint.
        chat_template: Jinja chat template for files that come without one.
        decoder: How its decoder layers are called.
        vision: How it sees; None = it does not.
        audio: How it hears; None = it does not.
        inside: Where config.json describes more than what is run, the part that describes that, and
            the `model_type` of that part; "" = the whole is run.
        base_model: A model of `architecture` to its base model, with a `language_model` and the
            modules of `vision` and `audio`; None = what AutoModel makes is one.
        language: Module of transformers' base model that is the language model.
        prefixes: How names of its tensors begin, in published files or in a version of
            transformers, and how instead with us; see `weights.tensor_names`, which knows those of
            its vision modules, and each with `model.` before it, by itself.
        stop_tokens: Tokens that end an answer.
        pad_tokens: Tokens that pad; the first one that the tokenizer has is taken.
        thinking: Tokens around what it writes before the answer; not every model has them.
        spare_tokens: Tokens of its tokenizer that its weights need not know.
        chat_settings: What its chat template is given beside the messages.
        begin: Token that its tokenizers put before every prompt, where they have it, and its chat
            template does not write; "" = none.
        language_models: `model_type` of the language models it may have inside; () = its own.
        single_file: Its published models, for files that come without a config.json; None = such
            files are not loaded.
    """

    title: str
    model_type: str
    architecture: str
    chat_template: str
    decoder: Decoder = Decoder()
    vision: VisionAdapter | None = None
    audio: AudioAdapter | None = None
    inside: tuple[str, str] = ("", "")
    base_model: Callable[[Any], Any] | None = None
    language: str = "language_model"
    prefixes: tuple[tuple[str, str], ...] = ()
    stop_tokens: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>")
    pad_tokens: tuple[str, ...] = ("<|endoftext|>",)
    thinking: tuple[str, str] = ("<think>", "</think>")
    spare_tokens: tuple[str, ...] = ()
    chat_settings: dict[str, Any] = field(default_factory=dict)
    begin: str = ""
    language_models: tuple[str, ...] = ()
    single_file: SingleFileDefaults | None = None

    @property
    def has_vision(self) -> bool:
        """Whether it takes pictures."""
        return self.vision is not None

    @property
    def has_audio(self) -> bool:
        """Whether it takes sounds."""
        return self.audio is not None

    @property
    def towers(self) -> tuple[str, ...]:
        """The modules of its base model beside the language model."""
        adapters = (self.vision, self.audio)
        return tuple(name for one in adapters if one is not None for name in one.modules)
