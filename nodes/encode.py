"""VLM Encode Image/Text: words and pictures into hidden states."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.check import notes_of
from ..vlm.model import VLM
from ..vlm.prompts.padding import PADDINGS
from ..vlm.prompts.prompt_syntax import AS_NATIVE, WEIGHTS, PromptSyntax
from ..vlm.prompts.templates import TEMPLATES
from ..vlm.quoted import told
from ..vlm.running.hidden_states import HiddenStates as Encoded
from ..vlm.targets import TARGETS, find_target
from ..vlm.token_map import count_roles, turn_column
from .fitting import misfit_note
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
    prompt_input,
    video_inputs,
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
from .widget_text import whole_number
from .words import with_notes

AUTO = "auto"


class VLMEncode(io.ComfyNode):
    """Runs text and pictures through a VLM."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCEncode",
            display_name="VLM Encode Image/Text",
            category="VLM Conditioning/encode",
            description="What a VLM understands of a prompt and pictures, layer by layer. Hidden "
            "Layer Select turns it into CONDITIONING.",
            search_aliases=[
                "VLM",
                "Qwen-VL encode",
                "image prompt",
                "picture to conditioning",
                "image to conditioning",
                "CLIP Vision",
                "audio",
                "sound to image",
            ],
            accept_all_inputs=True,  # see growing.py
            inputs=[
                Model.Input("model", tooltip="From VLM Loader or VLM From CLIP."),
                prompt_input(),
                io.Combo.Input(
                    "target",
                    options=list(TARGETS),
                    default="z-image",
                    tooltip="The diffusion model that will read the result. Sets template, pixel "
                    "budget and layers; `auto` on later nodes means the target's.",
                ),
                images_input(),
                *video_inputs(),
                io.String.Input(
                    "system",
                    multiline=True,
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="System prompt. Empty = the template's own.",
                ),
                io.Combo.Input(
                    "template",
                    options=[AUTO, *TEMPLATES],
                    default=AUTO,
                    optional=True,
                    advanced=True,
                    tooltip="How prompt and pictures are laid out. auto = the target's; "
                    "chat = the model's own chat template; raw = nothing around them.",
                ),
                editing_text_input(),
                *pixel_budget(),
                io.String.Input(
                    "depth",
                    default=AUTO,
                    optional=True,
                    advanced=True,
                    tooltip="Layer to run to at once: a layer index such as -2 or 20. auto = as "
                    "deep as the target reads. A gate that asks deeper runs the rest.",
                ),
                io.Combo.Input(
                    "padding",
                    options=list(PADDINGS),
                    default=AUTO,
                    optional=True,
                    advanced=True,
                    tooltip="Pad tokens around the prompt. auto = as the target was trained "
                    "(klein pads on the right, the X2I templates for FLUX.1 on the left, "
                    "x2i-internvl on the right); none = no pad tokens; left, right = in front or "
                    "behind, to the template's length or 512.",
                ),
                placement_input(),
                conversation_input(),
                system_file_input(),
                io.Combo.Input(
                    "weights",
                    options=list(WEIGHTS),
                    default=AS_NATIVE,
                    optional=True,
                    advanced=True,
                    tooltip="What (word:1.3) means. as native = letters, as in CLIP Text Encode "
                    "for these models; scale states = the word's states are multiplied by 1.3. "
                    "Only for targets that do not norm each token first: see the help page.",
                ),
                *audio_inputs(),
            ],
            outputs=[
                HiddenStates.Output(
                    display_name="hidden_states",
                    tooltip="Every layer passed, with the role and place of every token.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, system_file: Any = NONE, **others: Any) -> tuple | None:
        """Changes when the system prompt's file does, so that a changed one is read."""
        return system_fingerprint(system_file)

    @classmethod
    def validate_inputs(
        cls, depth: str = AUTO, images: Any = None, system: Any = "", system_file: Any = NONE
    ) -> bool | str:
        """Whether `depth`, pictures and files can be read, when the workflow is queued."""
        if odd := has_odd_images(images) or has_odd_system_file(system, system_file):
            return odd
        text = depth if isinstance(depth, str) else "" if depth is not None else AUTO
        if text.strip() == AUTO or whole_number(text) is not None:
            return True
        return f"depth is {told(depth)}; write auto or a layer index such as -2 or 20."

    @classmethod
    def execute(
        cls,
        model: Any,
        prompt: str,
        target: str,
        images: dict | None = None,
        video: Any = None,
        fps: float = 24.0,
        system: str = "",
        template: str = AUTO,
        editing_text: str = "",
        min_pixels: int = 0,
        max_pixels: int = 0,
        depth: str = AUTO,
        padding: str = AUTO,
        image_placement: str = TARGETS_OWN,
        conversation: Any = None,
        system_file: str = NONE,
        weights: str = AS_NATIVE,
        audio: Any = None,
        audio_in_video: bool = False,
    ) -> io.NodeOutput:
        """Encodes to the depth that the target needs."""
        need(model, VLM, "model on VLM Encode")
        layout = find_target(target).template if template == AUTO else template
        check_template(model, layout, "VLM Encode")
        start = time.perf_counter()
        states = model.encode(
            prompt,
            connected(images),
            target=target,
            template=layout,
            system=system_prompt(system, system_file) or None,
            edit=editing_text or None,
            video=None if video is None else need_image(video, "video"),
            fps=fps,
            min_pixels=min_pixels or None,
            max_pixels=max_pixels or None,
            padding=padding,
            placed=image_placement == NAMED,
            conversation=need_conversation(conversation, "VLM Encode"),
            syntax=replace(model.syntax or PromptSyntax(), weights=weights),
            audio=need_audio(audio, "VLM Encode"),
            audio_in_video=audio_in_video,
        )
        for each in states.keyframes:
            if depth.strip() == AUTO:
                each.reach_target()
            else:
                each.reach(int(depth))
        states.hold_model_weakly()  # the model's memory is its own node's to keep
        line = f"{_told(states)}, {time.perf_counter() - start:.1f} s"
        notes = [misfit_note(model, target), *notes_of(states, prompt)]
        return shown(with_notes(line, [note for note in notes if note]), states)


def _told(states: Encoded) -> str:
    """What was encoded, and how deep it ran."""
    roles = count_roles(states.token_map)
    turns = 1 + max(turn_column(states.token_map))
    weighed = sum(weight != 1.0 for weight in states.prompt.weights)
    parts = [f"{roles.get('image', 0)} image", f"{roles.get('text', 0)} prompt"]
    parts += [f"{roles['audio']} audio"] if roles.get("audio") else []
    parts += [f"{turns} turns"] if turns > 1 else []
    parts += [f"{weighed} weighed"] if weighed else []
    parts += [f"{states.reused_tokens} reused"] if states.reused_tokens else []
    layers = f"layers 0 to {states.depth} of {states.num_layers - 1}"
    return f"{states.token_map['n']} tokens ({', '.join(parts)}), {layers}"


NODES = [VLMEncode]
