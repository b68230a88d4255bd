"""InternVL 2.5, 3 and 3.5 in transformers' layout: tiles and a thumbnail, 1-D RoPE.

Published as OpenGVLab/InternVL3-*-hf, InternVL3_5-*-HF and InternVL2_5-*-MPO-hf. The language model
inside is Qwen2.5's, Qwen3's or InternLM 2.5 as a Llama.
"""

from __future__ import annotations

from typing import Any

import torch

from ..pictures import tiles
from ..pictures.patch_embed import TilePatchEmbed
from . import qwen_tiny, qwen_tiny_tokenizer
from .family import Family, Tiny, VisionAdapter, VisionFeatures

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


def vision_features(model: Any, pixels: torch.Tensor, grid: tuple[int, int, int]) -> VisionFeatures:
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


# Behind the tokens of Qwen2.5's tokenizer, in their order.
ADDED = (START, END, IMAGE, "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", VIDEO)
NAMED = {
    "start_image_token": START,
    "end_image_token": END,
    "context_image_token": IMAGE,
    "video_token": VIDEO,
}


def make_tokenizer() -> dict[str, Any]:
    """Content of tokenizer.json."""
    content = qwen_tiny_tokenizer.make_tokenizer(ordinary=qwen_tiny_tokenizer.ORDINARY[:8])
    tokens = content["added_tokens"]
    for name in ADDED:
        tokens.append({**tokens[0], "id": tokens[-1]["id"] + 1, "content": name})
    return content


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json, as InternVL3-1B-hf has it."""
    heads = width // qwen_tiny.qwen2_head(width)
    text = qwen_tiny.text_config(width, layers, ids) | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "torch_dtype": "float32",
        "num_attention_heads": heads,
        "num_key_value_heads": 1 if heads % 2 else 2,
        "intermediate_size": 128,
        "max_window_layers": layers,
        "rope_theta": 1000000.0,
        "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
        "sliding_window": None,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
        "vocab_size": ids[VIDEO],  # all tokens but that one, which is never embedded
    }
    vision = {
        "architectures": ["InternVisionModel"],
        "model_type": "internvl_vision",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": qwen_tiny.VISION,
        "image_size": [448, 448],
        "initializer_range": 1e-10,
        "intermediate_size": 2 * qwen_tiny.VISION,
        "layer_norm_eps": 1e-6,
        "layer_scale_init_value": 0.1,
        "norm_type": "layer_norm",
        "num_attention_heads": 2,
        "num_channels": 3,
        "num_hidden_layers": 4,
        "patch_size": [14, 14],
        "projection_dropout": 0.0,
        "use_absolute_position_embeddings": True,
        "use_mask_token": False,
        "use_mean_pooling": True,
        "use_qk_norm": False,
    }
    return {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "torch_dtype": "float32",
        "downsample_ratio": 0.5,
        "image_seq_length": 256,
        "image_token_id": ids[IMAGE],
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": False,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "text_config": text,
        "vision_config": vision,
    }


TINY = Tiny(
    tiny_config,
    {
        "language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "vision_tower.": "vision_tower.",
        "multi_modal_projector.": "multi_modal_projector.",
    },
    qwen_tiny.qwen2_head,
    files={
        "preprocessor_config.json": {
            "crop_to_patches": False,  # the processor turns it on
            "data_format": "channels_first",
            "default_to_square": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": list(tiles.MEAN),
            "image_processor_type": "GotOcr2ImageProcessorFast",
            "image_std": list(tiles.STD),
            "max_patches": 12,
            "min_patches": 1,
            "processor_class": "InternVLProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": 448, "width": 448},
        },
        "processor_config.json": {
            "image_seq_length": 256,
            "processor_class": "InternVLProcessor",
        },
    },
    tokenizer=make_tokenizer,
    tokenizer_config={
        "additional_special_tokens": [*qwen_tiny_tokenizer.SPECIAL[1:], *ADDED],
        "extra_special_tokens": NAMED,
        **NAMED,
    },
)

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
    tiny=TINY,
)
