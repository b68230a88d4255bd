"""Image Influence: more or less of what single images add to a prompt."""

from __future__ import annotations

import time
from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.entries import Entry, write_entries
from ..vlm.conditioning.influence import image_influence, in_time, parse_image_strengths
from ..vlm.model import VLM
from ..vlm.targets import TARGETS
from .devices import conditioning_device
from .prompting import connected, has_odd_images, images_input, pixel_budget, prompt_input
from .shown import shown
from .sockets import Model, need
from .widget_text import need_text

READABLE = [name for name, target in TARGETS.items() if target.layers is not None]


class ImageInfluence(io.ComfyNode):
    """Weighs the images of a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        percent = {"min": 0.0, "max": 1.0, "step": 0.01, "optional": True, "advanced": True}
        return io.Schema(
            node_id="VLMCImageInfluence",
            display_name="Image Influence",
            category="VLM Conditioning/encode",
            description="A strength for each image of a prompt. The influence of an image is the "
            "conditioning with it minus the conditioning with it muted at the same place; more or "
            "less of it goes into the result.",
            search_aliases=["VLM", "image strength", "image weight", "several images"],
            accept_all_inputs=True,  # see growing.py
            inputs=[
                Model.Input("model", tooltip="From VLM Loader or VLM From CLIP."),
                prompt_input(),
                io.Combo.Input(
                    "target",
                    options=READABLE,
                    default="z-image",
                    tooltip="The diffusion model that will read the result. Sets template, pixel "
                    "budget and layers.",
                ),
                io.String.Input(
                    "strengths",
                    default="1",
                    tooltip="One number per image between commas, or one for all: 1 = as it is"
                    ", 0 = its influence taken away, 2 = twice of it, below 0 = the "
                    "opposite.",
                ),
                images_input(least=1),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    tooltip="Where in the schedule the strengths begin to hold; before it all "
                    "are 1. 0 = from the start.",
                    **percent,
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    tooltip="Where in the schedule they end; after it all are 1. 1 = to the end.",
                    **percent,
                ),
                *pixel_budget(),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="The target's layers, as Hidden Layer Select gives them.",
                )
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        strengths: str,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        images: Any = None,
    ) -> bool | str:
        """Whether strengths and pictures can be read and the range holds something."""
        if odd := has_odd_images(images):
            return odd
        try:
            need_text(strengths=strengths)
            if strengths is not None:
                parse_image_strengths(strengths)
            if start_percent is not None and end_percent is not None:
                in_time([], [], start_percent, end_percent)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model: Any,
        prompt: str,
        target: str,
        strengths: str,
        images: dict | None = None,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        min_pixels: int = 0,
        max_pixels: int = 0,
    ) -> io.NodeOutput:
        """Encodes the prompt, and again for each image whose strength is not 1."""
        need(model, VLM, "model on Image Influence")
        start = time.perf_counter()
        given = parse_image_strengths(strengths)
        weighed, plain = image_influence(
            model,
            prompt,
            connected(images),
            given,
            target=target,
            min_pixels=min_pixels or None,
            max_pixels=max_pixels or None,
        )
        entries: list[Entry] = in_time(weighed, plain, start_percent, end_percent)
        tokens = entries[0].tokens
        line = (
            f"{len(tokens.token_map['grids'])} images at {', '.join(f'{s:g}' for s in given)}, "
            f"{tokens.n} tokens, {tokens.width} wide, {time.perf_counter() - start:.1f} s"
        )
        return shown(line, write_entries(entries, conditioning_device()))


NODES = [ImageInfluence]
