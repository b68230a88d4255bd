"""InternVL 2.5, 3 and 3.5 in transformers' layout: tiles and a thumbnail, 1-D RoPE.

Published as OpenGVLab/InternVL3-*-hf, InternVL3_5-*-HF and InternVL2_5-*-MPO-hf. The language model
inside is Qwen2.5's, Qwen3's or InternLM 2.5 as a Llama.
"""

from __future__ import annotations

from typing import Any

import torch

from ..pictures import tiles
from ..pictures.patch_embed import TilePatchEmbed
from .family import Family, VisionAdapter, VisionFeatures, picture_inputs

START, END, IMAGE, VIDEO = "<img>", "</img>", "<IMG_CONTEXT>", "<video>"

# As the published template renders; there is no system turn where none is given.
CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}
{{- message.content }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}
{{- '<IMG_CONTEXT>\\n' }}
{%- elif part.type == 'video' %}
{{- '<video>\\n' }}
{%- elif part.type == 'text' %}
{{- part.text }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def vision_features(model: Any, pixels: torch.Tensor, grid: tuple[int, ...]) -> VisionFeatures:
    """Runs the tower on tiles [T, 3, S, S], on transformers 4.57 and 5.x."""
    features = []
    for some in pixels.split(tiles.AT_ONCE):
        output = model.get_image_features(some)
        features.append(getattr(output, "pooler_output", output).flatten(0, 1))
    return torch.cat(features), []


def use_patch_embed(model: Any) -> None:
    """Gives the tower our patch embedding."""
    patches = model.vision_tower.embeddings.patch_embeddings
    patches.projection = TilePatchEmbed(patches.projection)


def frame_text(frame: int, seconds: float) -> str:
    """What stands before a video frame."""
    line_end = "\n" if frame else ""
    return f"{line_end}Frame{frame + 1}: "


FAMILY = Family(
    title="InternVL",
    model_type="internvl",
    architecture="InternVLForConditionalGeneration",
    chat_template=CHAT_TEMPLATE,
    vision=VisionAdapter(
        ("vision_tower", "multi_modal_projector"),
        vision_features,
        tiles.read_tile_preprocessor,
        use_patch_embed,
        forward_inputs=picture_inputs,
        frame_text=frame_text,
        start=START,
        end=END,
        image_token=IMAGE,
        video_token=VIDEO,
        frame_token=IMAGE,
        in_chat=(IMAGE, START + IMAGE + END),
    ),
    stop_tokens=("<|im_end|>", "<|endoftext|>", "</s>"),
    pad_tokens=("<|endoftext|>", "</s>"),
    spare_tokens=(VIDEO,),  # frames take its place
    language_models=("qwen2", "qwen3", "llama"),
    begin="<s>",
)
