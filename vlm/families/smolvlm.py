"""SmolVLM 2 (and SmolVLM in its layout): tiles with their row and column in words, 1-D RoPE.

Published as HuggingFaceTB/SmolVLM2-*-Instruct. A SigLIP tower, SmolLM2 as a Llama.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import torch

from ..pictures.patch_embed import TilePatchEmbed
from ..pictures.splits import read_split_preprocessor
from ..pictures.tiles import AT_ONCE, THUMBNAIL, TiledInput
from .family import Family, Place, VisionAdapter, VisionFeatures, picture_inputs

IMAGE, AROUND, WHOLE = "<image>", "<fake_token_around_image>", "<global-img>"

# As the published template renders: one token begins the conversation, not each turn.
CHAT_TEMPLATE = """\
{{- '<|im_start|>' }}
{%- for message in messages %}
{{- message.role | capitalize + (':' if message.content[0].type == 'image' else ': ') }}
{%- for part in message.content %}
{%- if part.type == 'text' %}{{- part.text }}{%- elif part.type == 'image' %}{{- '<image>' }}
{%- elif part.type == 'video' %}{{- '<video>' }}{%- endif %}
{%- endfor %}
{{- '<end_of_utterance>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}
"""


class TileEmbeddings(torch.nn.Module):
    """The tower's embeddings for tiles that are seen whole, as all of ours are.

    transformers finds each patch's place by fractions of the tile's side; 4.57 rounds them down to
    the place before. Of a whole tile every patch has the place of its own number.
    """

    def __init__(self, embeddings: Any):
        """Takes the layers of transformers' own module."""
        super().__init__()
        self.patch_embedding = TilePatchEmbed(embeddings.patch_embedding)
        self.position_embedding = embeddings.position_embedding

    def forward(self, pixel_values: torch.Tensor, patch_attention_mask: Any = None) -> torch.Tensor:
        """Tiles [T, 3, S, S] to patches [T, P, D]."""
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        places = torch.arange(patches.shape[1], device=patches.device)
        return patches + self.position_embedding(places)


def prepare(model: Any) -> None:
    """Gives the tower our embeddings of patches and places."""
    model.vision_model.embeddings = TileEmbeddings(model.vision_model.embeddings)


def vision_features(model: Any, pixels: torch.Tensor, grid: tuple[int, ...]) -> VisionFeatures:
    """Runs tower and connector on tiles [T, 3, S, S], on transformers 4.57 and 5.x."""
    features = []
    for some in pixels.split(AT_ONCE):
        output = model.get_image_features(some[None])
        output = getattr(output, "pooler_output", output)
        features += [part.flatten(0, -2) for part in output]
    return torch.cat(features), []


def layout(vision_input: TiledInput, frame: int) -> Iterable[Place | str]:
    """Before each tile its row and column, behind each row of tiles a line end."""
    tiles = vision_input.tile_rows * vision_input.tile_cols
    for tile, places in groupby(vision_input.places(frame), key=lambda place: place[0]):
        row, col = divmod(tile, vision_input.tile_cols)
        if tiles == 1:
            yield AROUND + WHOLE
        elif tile == THUMBNAIL:
            yield "\n" + AROUND + WHOLE
        else:
            yield f"{AROUND}<row_{row + 1}_col_{col + 1}>"
        yield from places
        if tiles > 1 and tile != THUMBNAIL and col == vision_input.tile_cols - 1:
            yield "\n"
    yield AROUND


def forward_inputs(vision_inputs: Sequence[TiledInput]) -> dict[str, torch.Tensor]:
    """See `VisionAdapter.forward_inputs`: the tiles of all pictures, [1, T, 3, S, S]."""
    return {name: pixels[None] for name, pixels in picture_inputs(vision_inputs).items()}


FAMILY = Family(
    title="SmolVLM",
    model_type="smolvlm",
    architecture="SmolVLMForConditionalGeneration",
    chat_template=CHAT_TEMPLATE,
    vision=VisionAdapter(
        ("vision_model", "connector"),
        vision_features,
        read_split_preprocessor,
        prepare,
        layout=layout,
        forward_inputs=forward_inputs,
        video=False,
        start="",
        end="",
        image_token=IMAGE,
        video_token="<video>",
        frame_token=IMAGE,
    ),
    language="text_model",
    prefixes=(("text_model.", "language_model."),),
    language_models=("llama",),
    stop_tokens=("<end_of_utterance>", "<|im_end|>"),
    pad_tokens=("<|im_end|>",),
)
