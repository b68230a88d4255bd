"""Gemma 3 (4B, 12B, 27B): most layers see a window only; a picture's tokens see each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..pictures.square import read_square_preprocessor
from .decoder import Decoder
from .family import Family, VisionAdapter, VisionFeatures, picture_inputs

FULL, SLIDING = "full_attention", "sliding_attention"
IMAGE = "<image_soft_token>"

# As the published template renders without tools: there is no system turn, what it would say stands
# in front of the first user turn.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- set before = namespace(text='') %}
{%- if messages[0].role == 'system' %}
{%- set said = messages[0].content %}
{%- set before.text = (said if said is string else said[0].text) + '\\n\\n' %}
{%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
{{- before.text if loop.first }}
{%- if message.content is string %}
{{- message.content | trim }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}
{{- '<start_of_image>' }}
{%- elif part.type == 'text' %}
{{- part.text | trim }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}
"""


@dataclass(frozen=True)
class WindowedDecoder(Decoder):
    """Two kinds of layers, each with a rotary embedding and a mask of its own."""

    def rotary(
        self, text: Any, hidden: torch.Tensor, positions: torch.Tensor
    ) -> dict[str, dict[str, Any]]:
        """Arguments by the kind of layer, on transformers 4.57 and 5."""
        place = positions[:1]
        embedding = text.rotary_emb.to(hidden.device)
        if not hasattr(text, "rotary_emb_local"):
            kinds = set(text.config.layer_types)
            return {kind: {"position_embeddings": embedding(hidden, place, kind)} for kind in kinds}
        both = {
            "position_embeddings_global": embedding(hidden, place),
            "position_embeddings_local": text.rotary_emb_local.to(hidden.device)(hidden, place),
        }
        return {FULL: both, SLIDING: both}

    def mask(
        self, text: Any, allowed: torch.Tensor | None, hidden: torch.Tensor, past: int
    ) -> dict[str, torch.Tensor | None]:
        """Masks by the kind of layer: sliding ones see the last `sliding_window` tokens.

        Raises:
            ValueError: EmbeddingGemma and its kin, whose text looks ahead as well.
        """
        if text.config.use_bidirectional_attention:
            raise ValueError(
                "This model was made to compare texts (its config.json says "
                "use_bidirectional_attention), which is not run here. Choose a Gemma 3 that "
                "writes, such as gemma-3-4b-it."
            )
        window, total = text.config.sliding_window, past + hidden.shape[1]
        if total <= window:
            return {FULL: allowed, SLIDING: allowed}
        key = torch.arange(total, device=hidden.device)
        query = key[past:, None]
        near = (key > query - window)[None, None]
        return {FULL: allowed, SLIDING: near & (key <= query if allowed is None else allowed)}

    def arguments(self, text: Any, layer: int, rotary: Any, mask: Any) -> dict[str, Any]:
        """Those of the layer's kind."""
        kind = text.config.layer_types[layer]
        return {"attention_mask": mask[kind], **rotary[kind]}


def vision_features(model: Any, pixels: torch.Tensor, grid: tuple[int, ...]) -> VisionFeatures:
    """Runs tower and projector on one picture; transformers 4.57 gives the features alone."""
    output = model.get_image_features(pixels)
    return getattr(output, "pooler_output", output)[0], []


FAMILY = Family(
    title="Gemma 3",
    model_type="gemma3",
    architecture="Gemma3ForConditionalGeneration",
    chat_template=CHAT_TEMPLATE,
    decoder=WindowedDecoder(pictures_whole=True),
    vision=VisionAdapter(
        ("vision_tower", "multi_modal_projector"),
        vision_features,
        read_square_preprocessor,
        forward_inputs=picture_inputs,
        video=False,
        start="<start_of_image>",
        end="<end_of_image>",
        image_token=IMAGE,
        video_token=IMAGE,
        frame_token=IMAGE,
        # Its processor, not its template, brings the lines around a picture.
        in_chat=("<start_of_image>", f"\n\n<start_of_image>{IMAGE}<end_of_image>\n\n"),
    ),
    # As SigLIP's files have them, and transformers 4.57.
    prefixes=(("vision_tower.vision_model.", "vision_tower."),),
    stop_tokens=("<end_of_turn>", "<eos>"),
    pad_tokens=("<pad>",),
)
