"""VLM Rewrite Prompt: the VLM writes a better prompt, and its states go on as they came."""

from __future__ import annotations

import time
from typing import Any

from comfy_api.latest import io

from ..vlm.model import VLM
from ..vlm.prompts.answer_size import AnswerSize, prompt_of, size_of
from ..vlm.prompts.padding import NONE
from ..vlm.prompts.rewrite_prompts import DEFAULT, SYSTEM_PROMPTS, find_system
from ..vlm.prompts.templates import CHAT, TEMPLATES
from ..vlm.running.rewrite import Rewritten
from ..vlm.targets import TARGETS
from ..vlm.token_map import count_roles
from .draft import Draft, numbered
from .prompting import (
    NAMED,
    TARGETS_OWN,
    audio_inputs,
    check_template,
    connected,
    conversation_input,
    editing_text_input,
    has_odd_images,
    images_input,
    need_audio,
    need_conversation,
    need_image,
    pixel_budget,
    placement_input,
    video_inputs,
)
from .rewrite_inputs import answers_input, padding_input, sampling_inputs, size_inputs
from .shown import shown
from .sockets import HiddenStates, Model, need
from .system_file import NONE as NO_FILE
from .system_file import (
    has_odd_system_file,
    system_file_input,
    system_fingerprint,
    system_prompt,
)


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
                *sampling_inputs(),
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
                *video_inputs(),
                editing_text_input(),
                padding_input(),
                answers_input(),
                *size_inputs(),
                *audio_inputs(),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, system_file: Any = NO_FILE, **others: Any) -> tuple | None:
        """Changes when the system prompt's file does, so that a changed one is read."""
        return system_fingerprint(system_file)

    @classmethod
    def validate_inputs(
        cls, images: Any = None, system: Any = "", system_file: Any = NO_FILE
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
        system_file: str = NO_FILE,
        video: Any = None,
        fps: float = 24.0,
        editing_text: str = "",
        padding: str = NONE,
        answers: int = 1,
        width: int = 1024,
        height: int = 1024,
        megapixels: float = 1.0,
        audio: Any = None,
        audio_in_video: bool = False,
    ) -> io.NodeOutput:
        """Writes, or runs a given answer as deep as the target needs."""
        node, start = "VLM Rewrite Prompt", time.perf_counter()
        need(model, VLM, f"model on {node}")
        check_template(model, template, node)
        own = system_prompt(system, system_file)
        draft, given = Draft(model.tokenizer), bool(answer.strip())
        with draft.kept():
            first = model.rewrite(
                prompt, connected(images), target=target, template=template,
                system=own if own.strip() else find_system(preset),
                video=None if video is None else need_image(video, "video"), fps=fps,
                max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k,
                seed=seed, answer=answer if given else None, answers=answers, on_token=draft,
                edit=editing_text or None, padding=padding,
                min_pixels=min_pixels or None, max_pixels=max_pixels or None,
                placed=image_placement == NAMED, conversation=need_conversation(conversation, node),
                audio=need_audio(audio, node), audio_in_video=audio_in_video,
            )  # fmt: skip
            made = [first, *first.others]
            _finish(made)
        sizes = [size_of(one.text, width, height, megapixels) for one in made]
        line = _line(made, sizes, given, 1 if given else answers)
        return _shown(f"{line}, {time.perf_counter() - start:.1f} s", made, sizes)


def _finish(answers: list[Rewritten]) -> None:
    """Runs them as deep as their target needs."""
    for answer in answers:
        for states in answer.states.keyframes:
            states.reach_target()
        answer.states.hold_model_weakly()  # the model's memory is its own node's to keep


def _shown(line: str, answers: list[Rewritten], sizes: list[AnswerSize]) -> io.NodeOutput:
    """The outputs, each a list of one per answer."""
    texts = [one.text for one in answers]
    return shown(
        f"{numbered(texts)}\n{line}",
        [one.states for one in answers],
        texts,
        [size.width for size in sizes],
        [size.height for size in sizes],
        [prompt_of(text) for text in texts],
    )


def _outputs() -> list[io.Output]:
    return [
        HiddenStates.Output(
            display_name="hidden_states",
            is_output_list=True,
            tooltip="Of prompt, pictures and answer; Token Filter's `generated` keeps the answer "
            "and the pictures.",
        ),
        io.String.Output(
            display_name="text",
            is_output_list=True,
            tooltip="The answer, for reading or for any text encoder; without thinking.",
        ),
        io.Int.Output(
            display_name="width",
            is_output_list=True,
            tooltip="Of the picture, from the ratio or size that an answer in JSON names; else "
            "the widget's.",
        ),
        io.Int.Output(
            display_name="height",
            is_output_list=True,
            tooltip="Of the picture, likewise.",
        ),
        io.String.Output(
            display_name="prompt",
            is_output_list=True,
            tooltip="The prompt inside an answer in JSON, for any text encoder; another answer as "
            "it stands.",
        ),
    ]


def _line(made: list[Rewritten], sizes: list[AnswerSize], given: bool, asked: int) -> str:
    """What was written, behind what, and the sizes that the outputs say."""
    states = made[0].states
    roles = [count_roles(one.states.token_map) for one in made]
    thinking = sum(each.get("thinking", 0) for each in roles)
    cut = sum(not one.finished for one in made)
    pads = roles[0].get("pad", 0)
    line = f"{' + '.join(str(one.tokens) for one in made)} tokens "
    line += "replayed" if given else "written"
    line += f", {thinking} of them thinking" if thinking else ""
    if cut:
        line += ", cut at max_tokens" if len(made) == 1 else f", {cut} cut at max_tokens"
    line += f", behind {states.n - made[0].tokens - pads} ({roles[0].get('image', 0)} image)"
    line += f", {pads} pad tokens" if pads else ""
    if len(made) < asked:
        line += f", {asked - len(made)} more in which nothing can be read"
    told = dict.fromkeys(f"{size.width} x {size.height} ({size.source})" for size in sizes)
    return f"{line}, size {'; '.join(told)}"


NODES = [VLMRewrite]
