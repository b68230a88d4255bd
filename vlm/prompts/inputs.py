"""What a person gives to have a prompt laid out: words, pictures, and how they are to stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .conversation import Conversation
from .padding import AUTO
from .prompt_syntax import PromptSyntax


@dataclass(frozen=True)
class PromptInputs:
    """The inputs that encoding and rewriting share; `VLM.encode` describes each.

    Attributes:
        images: Pictures before the text, in any form that `pictures.picture_inputs` takes.
        video: Frames after the pictures; None = no video.
        fps: Frames per second of `video`.
        audio: Sounds after pictures and video, in any form that `sounds.waves` takes.
        audio_in_video: The first of them is the video's own, and stands between its frames.
        target: Name of the diffusion model that will read it.
        template: Layout; None = the target's.
        system: System prompt; None = the template's own.
        edit: Editing text of X2I's templates.
        min_pixels: Fewest pixels of a picture; None = the target's.
        max_pixels: Most pixels, likewise.
        padding: Where pad tokens stand.
        mute: Numbers of pictures that the model does not see.
        placed: Pictures stand where the words name them.
        conversation: Turns before the prompt; None = there are none.
        syntax: What characters of the prompt mean beyond themselves; None = nothing.
    """

    images: Any = None
    video: Any = None
    fps: float = 24.0
    target: str = "chat"
    template: str | None = None
    system: str | None = None
    edit: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    padding: str = AUTO
    mute: Sequence[int] = ()
    placed: bool = False
    conversation: Conversation | None = None
    syntax: PromptSyntax | None = None
    audio: Any = None
    audio_in_video: bool = False
