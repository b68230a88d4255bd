"""VLM Rewrite Prompt: the VLM writes a better prompt, and its states go on as they came."""

from __future__ import annotations

import time
from typing import Any

from comfy_api.latest import io

from ..vlm.model import VLM
from ..vlm.prompts.rewrite_prompts import DEFAULT, SYSTEM_PROMPTS, find_system
from ..vlm.prompts.templates import CHAT, TEMPLATES
from ..vlm.running.rewrite import MAX_TOKENS
from ..vlm.targets import TARGETS
from ..vlm.token_map import count_roles
from .prompting import (
    NAMED,
    TARGETS_OWN,
    check_template,
    connected,
    conversation_input,
    has_odd_images,
    images_input,
    need_conversation,
    pixel_budget,
    placement_input,
)
from .shown import shown
from .sockets import HiddenStates, Model, need
from .system_file import (
    NONE,
    has_odd_system_file,
    system_file_input,
    system_fingerprint,
    system_prompt,
)

MAX_SEED = 0xFFFFFFFFFFFFFFFF


def _sampling() -> list[io.Input]:
    return [
        io.Int.Input(
            "max_tokens",
            default=MAX_TOKENS,
            min=1,
            max=8192,
            tooltip="Most tokens the VLM writes, thinking included; an English word takes about "
            "1.3. It may stop earlier.",
        ),
        io.Float.Input(
            "temperature",
            default=0.7,
            min=0.0,
            max=5.0,
            step=0.05,
            tooltip="How freely it chooses words: 0 = always the likeliest one, the same at every "
            "run; 1 = as it was trained.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            control_after_generate=True,
            tooltip="Another seed, another wording. Not used at temperature 0.",
        ),
        io.Float.Input(
            "top_p",
            default=0.8,
            min=0.01,
            max=1.0,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="Only the likeliest words that reach this probability together. 1 = all.",
        ),
        io.Int.Input(
            "top_k",
            default=20,
            min=0,
            max=1000,
            optional=True,
            advanced=True,
            tooltip="Only so many of the likeliest words. 0 = all.",
        ),
    ]


class VLMRewrite(io.ComfyNode):
    """Has a VLM rewrite a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCRewrite",
            display_name="VLM Rewrite Prompt",
            category="VLM Conditioning/encode",
            description="The VLM rewrites a prompt, seeing the pictures. The hidden states of "
            "prompt, pictures and answer come from that one pass; the answer also comes as text.",
            search_aliases=[
                "VLM",
                "prompt enhancer",
                "prompt rewriting",
                "VERIFI",
                "caption",
                "describe",
                "image to text",
                "Qwen-VL",
            ],
            accept_all_inputs=True,  # see growing.py
            inputs=[
                Model.Input("model", tooltip="From VLM Loader or VLM From CLIP."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What you want, in your own words. Special tokens typed here stay "
                    "ordinary text.",
                ),
                io.Combo.Input(
                    "target",
                    options=list(TARGETS),
                    default="z-image",
                    tooltip="The diffusion model that will read the hidden states. Sets pixel "
                    "budget and layers; `auto` on later nodes means the target's.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(SYSTEM_PROMPTS),
                    default=DEFAULT,
                    tooltip="What the VLM is told to write. A text in `system` or a "
                    "`system_file` replaces it.",
                ),
                *_sampling(),
                images_input(),
                io.String.Input(
                    "system",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="Your own instruction to the VLM. Empty = the preset's.",
                ),
                io.String.Input(
                    "answer",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="An answer to use as it stands, such as an edited one: nothing is "
                    "generated, only encoded. Empty = the VLM writes.",
                ),
                *pixel_budget(),
                io.Combo.Input(
                    "template",
                    options=list(TEMPLATES),
                    default=CHAT,
                    optional=True,
                    advanced=True,
                    tooltip="How the request is laid out. chat (default) = the model's own chat "
                    "template; raw = nothing around it, for a model without one: it goes on with "
                    "the text.",
                ),
                placement_input(),
                conversation_input(),
                system_file_input(),
            ],
            outputs=[
                HiddenStates.Output(
                    display_name="hidden_states",
                    tooltip="Of prompt, pictures and answer; Token Filter's `generated` keeps the "
                    "answer and the pictures.",
                ),
                io.String.Output(
                    display_name="text",
                    tooltip="The answer, for reading or for any text encoder; without thinking.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, system_file: Any = NONE, **others: Any) -> tuple | None:
        """Changes when the system prompt's file does, so that a changed one is read."""
        return system_fingerprint(system_file)

    @classmethod
    def validate_inputs(
        cls, images: Any = None, system: Any = "", system_file: Any = NONE
    ) -> bool | str:
        """Whether pictures and files can be read, when the workflow is queued."""
        return has_odd_images(images) or has_odd_system_file(system, system_file) or True

    @classmethod
    def execute(
        cls,
        model: Any,
        prompt: str,
        target: str,
        preset: str,
        max_tokens: int,
        temperature: float,
        seed: int,
        top_p: float = 0.8,
        top_k: int = 20,
        images: dict | None = None,
        system: str = "",
        answer: str = "",
        min_pixels: int = 0,
        max_pixels: int = 0,
        template: str = CHAT,
        image_placement: str = TARGETS_OWN,
        conversation: Any = None,
        system_file: str = NONE,
    ) -> io.NodeOutput:
        """Writes, or runs a given answer as deep as the target needs."""
        need(model, VLM, "model on VLM Rewrite Prompt")
        check_template(model, template, "VLM Rewrite Prompt")
        start = time.perf_counter()
        own = system_prompt(system, system_file)
        made = model.rewrite(
            prompt,
            connected(images),
            target=target,
            system=own if own.strip() else find_system(preset),
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            answer=answer if answer.strip() else None,
            template=template,
            min_pixels=min_pixels or None,
            max_pixels=max_pixels or None,
            placed=image_placement == NAMED,
            conversation=need_conversation(conversation, "VLM Rewrite Prompt"),
        )
        for each in made.states.keyframes:
            each.reach_target()
        made.states.hold_model_weakly()  # the model's memory is its own node's to keep
        roles = count_roles(made.states.token_map)
        how = "replayed" if answer.strip() else "written"
        thought = f", {roles['thinking']} of them thinking" if "thinking" in roles else ""
        cut = "" if made.finished else ", cut at max_tokens"
        line = (
            f"{made.text}\n{made.tokens} tokens {how}{thought}{cut}, behind "
            f"{made.states.n - made.tokens} ({roles.get('image', 0)} image), "
            f"{time.perf_counter() - start:.1f} s"
        )
        return shown(line, made.states, made.text)


NODES = [VLMRewrite]
