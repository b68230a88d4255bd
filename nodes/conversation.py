"""Conversation Turn: what was said and shown before a prompt, and what the VLM answered."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..vlm.prompts.conversation import Conversation as Talk
from .prompting import (
    audio_inputs,
    connected,
    has_odd_images,
    images_input,
    need_audio,
    need_conversation,
    need_image,
    video_inputs,
)
from .shown import shown
from .sockets import Conversation


class ConversationTurn(io.ComfyNode):
    """One more turn of a conversation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCTurn",
            display_name="Conversation Turn",
            category="VLM Conditioning/encode",
            description="A turn of a conversation: your words and pictures, and what the VLM "
            "answered. VLM Encode and VLM Rewrite Prompt go on from there; every turn is part of "
            "what they give.",
            search_aliases=["VLM", "multi-turn", "chat history", "dialogue", "reasoning"],
            accept_all_inputs=True,  # see growing.py
            inputs=[
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="Your words in this turn. Special tokens typed here stay ordinary "
                    "text.",
                ),
                io.String.Input(
                    "answer",
                    multiline=True,
                    default="",
                    tooltip="What the VLM answered: connect VLM Rewrite Prompt's text, or type it.",
                ),
                images_input(),
                *video_inputs(),
                Conversation.Input(
                    "conversation",
                    optional=True,
                    tooltip="The turns before this one, from another Conversation Turn. None = "
                    "this is the first.",
                ),
                *audio_inputs(),
            ],
            outputs=[
                Conversation.Output(
                    display_name="conversation",
                    tooltip="For VLM Encode, VLM Rewrite Prompt or the next Conversation Turn.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, images: Any = None) -> bool | str:
        """Whether the pictures can be read, when the workflow is queued."""
        return has_odd_images(images) or True

    @classmethod
    def execute(
        cls,
        prompt: str,
        answer: str,
        images: dict | None = None,
        video: Any = None,
        fps: float = 24.0,
        conversation: Any = None,
        audio: Any = None,
        audio_in_video: bool = False,
    ) -> io.NodeOutput:
        """Adds the turn; nothing runs."""
        before = need_conversation(conversation, "Conversation Turn") or Talk()
        if not answer.strip():
            raise ValueError(
                "answer on Conversation Turn is empty, and the VLM's answer stands between two "
                "turns. Connect VLM Rewrite Prompt's text, or type what it answered."
            )
        film = None if video is None else need_image(video, "video")
        heard = need_audio(audio, "Conversation Turn")
        asked = before.user(
            prompt, connected(images), video=film, fps=fps, audio=heard,
            audio_in_video=audio_in_video,
        )  # fmt: skip
        talk = asked.assistant(answer)
        return shown(f"turn {len(talk.turns)}", talk)


NODES = [ConversationTurn]
