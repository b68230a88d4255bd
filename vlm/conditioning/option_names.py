"""Options of a CONDITIONING that a file may hold: their names, and the kind and shape of each.

A file is a stranger's: under the name of a hook or a ControlNet plain data would end a sampler with
an error far from its cause. The names are those that ComfyUI's nodes write as plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..logger import LOG
from ..quoted import told

Check = Callable[[Any], bool]


_LARGEST = 3.4e38  # what float32 holds


def _number(low: float = -_LARGEST, high: float = _LARGEST) -> Check:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _tensor(least: int, most: int) -> Check:
    """A tensor of that many dimensions, none of them empty."""
    return lambda value: (
        isinstance(value, torch.Tensor) and least <= value.ndim <= most and 0 not in value.shape
    )


def _list_of(one: Check) -> Check:
    return lambda value: isinstance(value, (list, tuple)) and all(map(one, value))


def _area(value: Any) -> bool:
    """Height, width, y, x: of the latent, or after the word percentage as shares."""
    if not isinstance(value, (list, tuple)) or len(value) not in (4, 5):
        return False
    if len(value) == 5:
        return value[0] == "percentage" and _numbers(value[1:])
    return _numbers(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


_numbers = _list_of(_number())
_LATENT, _STATES, _VECTOR = _tensor(3, 5), _tensor(2, 4), _tensor(1, 2)
# What is expected, in words; whether a value is that; the names.
_KINDS: list[tuple[str, Check, str]] = [
    ("a number from 0 to 1", _number(0, 1),
     "start_percent end_percent clip_start_percent clip_end_percent"),
    ("a number", _number(),
     "guidance strength mask_strength width height crop_w crop_h target_width target_height "
     "aesthetic_score noise_augmentation augmentation_level motion_bucket_id fps frame_rate "
     "seconds_start seconds_total elevation azimuth lyrics_strength audio_inject_scale "
     "guiding_frame_index concat_mask_index reference_strength pose_strength degrade_sigma "
     "minimax_visual_cond_noise_aug minimax_audio_cond_noise_aug"),
    ("true or false", _flag, "default set_area_to_bounds unprocessed_ltxav_embeds"),
    ("a text", _text, "reference_latents_method prompt_type vlm_tokens"),
    ("four numbers, or percentage and four numbers", _area, "area"),
    ("a list of numbers of tokens",
     _list_of(lambda at: type(at) is int and 0 <= at < 2**31), "image_slots"),
    ("a list of numbers", _numbers, "vace_strength"),
    ("a list of tensors of 3 to 5 dimensions", _list_of(_LATENT),
     "reference_latents vace_frames vace_mask"),
    ("a tensor of 1 or 2 dimensions", _VECTOR,
     "pooled_output pooled_output_controlnet attention_mask attention_mask_mt5xl "
     "minimax_token_tags t5xxl_ids t5xxl_weights text_input_ids"),
    ("a tensor of 2 to 4 dimensions", _STATES,
     "mask cross_attn_controlnet cross_attn_pose conditioning_llama3 conditioning_byt5small "
     "conditioning_mt5xl conditioning_lyrics reference_latents_text_embeds audio_embed "
     "keyframe_idxs"),
    ("a tensor of 3 to 5 dimensions", _LATENT,
     "concat_latent_image concat_mask concat_image denoise_mask ref_latent stable_cascade_prior "
     "time_dim_concat time_dim_replace pose_video_latent face_video_pixels ref_audio "
     "control_video context_latents reference_motion lq_latent camera_conditions"),
]  # fmt: skip
_KNOWN = {name: (words, check) for words, check, names in _KINDS for name in names.split()}


def unknown_options(options: Mapping[str, Any]) -> list[str]:
    """Names that ``checked_options`` leaves out."""
    return [name for name in options if name not in _KNOWN]


def checked_options(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Those options that may come from a file.

    Args:
        options: As they were read. None counts as any kind: encoders write it for "there is none".
        where: What holds them, for the warning.

    Returns:
        Those with a known name; the others are left out with a warning.

    Raises:
        ValueError: A known name holds something else than it should.
    """
    unknown = unknown_options(options)
    if unknown:
        LOG.warning(
            "%s holds options that no node of ComfyUI is known to read as plain data: %s. They "
            "are left out; put the node that adds them behind the one that loads the file.",
            where,
            ", ".join(told(name) for name in unknown[:5]),
        )
    kept = {name: value for name, value in options.items() if name in _KNOWN}
    for name, value in kept.items():
        words, fits = _KNOWN[name]
        if value is not None and not fits(value):
            raise ValueError(f"its option {told(name)} is {_shown(value)}, expected {words}")
    return kept


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {list(value.shape)}"
    return told(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
