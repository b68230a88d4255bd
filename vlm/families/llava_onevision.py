"""LLaVA-OneVision in transformers' layout: a thumbnail, then rows of tokens with trained line ends.

Published as llava-hf/llava-onevision-qwen2-*-hf. A SigLIP tower, a Qwen2 language model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from einops import rearrange

from ..pictures.anyres import AT_ONCE, AnyresGrid, AnyresInput, read_anyres_preprocessor
from ..pictures.patch_embed import TilePatchEmbed
from .family import Family, Place, VisionAdapter, VisionFeatures

IMAGE, VIDEO = "<image>", "<video>"

# As the published template renders: pictures first, whatever their place among the texts.
CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + ' ' }}
{%- for part in message.content if part.type == 'image' %}{{- '<image>' }}{%- endfor %}
{%- for part in message.content if part.type == 'video' %}{{- '<video>' }}{%- endfor %}
{%- for part in message.content if part.type == 'text' %}{{- '\\n' + part.text }}{%- endfor %}
{{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


class LineEnd(torch.nn.Module):
    """The trained vector that ends a row of a picture's tokens, as a module that can be moved."""

    def __init__(self, weight: torch.nn.Parameter):
        """Takes over the vector [D]."""
        super().__init__()
        self.weight = weight


def prepare(model: Any) -> None:
    """Gives the tower our patch embedding, and the line end a module of its own."""
    embeddings = _tower(model).embeddings
    embeddings.patch_embedding = TilePatchEmbed(embeddings.patch_embedding)
    line_end = LineEnd(model.image_newline)
    del model.image_newline
    model.line_end = line_end


def vision_features(model: Any, pixels: torch.Tensor, grid: tuple[int, ...]) -> VisionFeatures:
    """Runs tower and projector on tiles [T, 3, S, S], and sets the line ends.

    Args:
        model: transformers' base model.
        pixels: The thumbnail, then the tiles; or one tile.
        grid: `AnyresGrid`.
    """
    shape, tower = AnyresGrid(*grid), _tower(model)
    seen = []
    for some in pixels.split(AT_ONCE):
        # Neither the states of every layer nor the norm behind the last one are wanted.
        states = tower.encoder(inputs_embeds=tower.embeddings(some)).last_hidden_state
        seen.append(model.multi_modal_projector(states))
    features, end = torch.cat(seen), model.line_end.weight
    if not shape.tile_rows:
        return torch.cat([features[0], end[None]]), []
    whole = rearrange(
        features[1:], "(r c) (h w) d -> d (r h) (c w)", r=shape.tile_rows, h=shape.rows
    )
    top, left = (whole.shape[1] - shape.kept_rows) // 2, (whole.shape[2] - shape.kept_cols) // 2
    whole = whole[:, top : top + shape.kept_rows, left : left + shape.kept_cols]
    if (shape.out_rows, shape.out_cols) != whole.shape[1:]:
        size = [shape.out_rows, shape.out_cols]
        whole = torch.nn.functional.interpolate(whole[None], size, mode="bilinear")[0]
    ends = end[:, None, None].expand(-1, shape.out_rows, 1)
    rows = rearrange(torch.cat([whole, ends], dim=2), "d h w -> (h w) d")
    return torch.cat([features[0], rows]), []


def layout(vision_input: AnyresInput, frame: int) -> Iterable[Place | str]:
    """The thumbnail, then rows with a line end behind each; a single tile has one at its end."""
    for tile, row, col in vision_input.places(frame):
        yield tile, row, col
        last = tile >= 0 and col == vision_input.cols - 1
        if last and (vision_input.is_tiled or row == vision_input.rows - 1):
            yield IMAGE


def forward_inputs(vision_inputs: Sequence[AnyresInput]) -> dict[str, torch.Tensor]:
    """See `VisionAdapter.forward_inputs`: tiles [n, T, 3, S, S] and the pictures' sizes."""
    if not vision_inputs:
        return {}
    pixels = torch.stack([one.patches().pixels for one in vision_inputs])
    sizes = torch.tensor([one.size for one in vision_inputs])
    return {
        "pixel_values": pixels,
        "image_sizes": sizes,
        "batch_num_images": torch.tensor([len(vision_inputs)]),
    }


def _tower(model: Any) -> Any:
    """SigLIP's modules, on transformers 4.57 one level deeper."""
    return getattr(model.vision_tower, "vision_model", model.vision_tower)


FAMILY = Family(
    title="LLaVA-OneVision",
    model_type="llava_onevision",
    architecture="LlavaOnevisionForConditionalGeneration",
    chat_template=CHAT_TEMPLATE,
    vision=VisionAdapter(
        ("vision_tower", "multi_modal_projector", "line_end"),
        vision_features,
        read_anyres_preprocessor,
        prepare,
        layout=layout,
        forward_inputs=forward_inputs,
        video=False,
        start="",
        end="",
        image_token=IMAGE,
        video_token=VIDEO,
        frame_token=VIDEO,
    ),
    prefixes=(
        ("vision_tower.vision_model.", "vision_tower."),  # SigLIP's files, transformers 4.57
        ("image_newline", "image_newline"),
    ),
    language_models=("qwen2",),
)
