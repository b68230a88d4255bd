"""Tiny random versions of models whose real sizes ComfyUI's loaders insist on."""

from __future__ import annotations

import types

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.text_encoders.flux
import comfy.text_encoders.z_image
import torch

from .weights import fill

CLIP_TARGETS = {
    "z-image": (comfy.text_encoders.z_image.te, comfy.text_encoders.z_image.ZImageTokenizer),
    "flux2-klein": (comfy.text_encoders.flux.klein_te, comfy.text_encoders.flux.KleinTokenizer),
}


def text_config(width: int, layers: int) -> dict[str, int]:
    """Config of the tiny Qwen3 by its native names; head_dim stays 128, which is fixed there."""
    return {
        "hidden_size": width,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
    }


def tiny_clip(target: str, width: int = 64, layers: int = 36) -> comfy.sd.CLIP:
    """The native text encoder of a target with a tiny Qwen3 in float32 and the real tokenizer.

    Only the class that recognises checkpoints by their size is passed by: the wrapper, the
    tokenizer, the template and the layers taken are those of the real loader.
    """
    make, tokenizer = CLIP_TARGETS[target]
    pick = types.SimpleNamespace(clip=make(), tokenizer=tokenizer, params={})
    options = {"dtype": torch.float32, "qwen3_4b_model_config": text_config(width, layers)}
    clip = comfy.sd.CLIP(pick, model_options=options)
    fill(clip.cond_stage_model.qwen3_4b.transformer)
    return clip


def tiny_z_image(width: int = 2560, layers: int = 2) -> comfy.model_patcher.ModelPatcher:
    """A Z-Image diffusion model of dim 256 that reads CONDITIONING of `width`."""
    config = comfy.supported_models.ZImage(
        {
            "image_model": "lumina2",
            "patch_size": 2,
            "in_channels": 16,
            "dim": 256,
            "cap_feat_dim": width,
            "n_layers": layers,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "axes_dims": [32, 48, 48],
            "axes_lens": [1536, 512, 512],
            "rope_theta": 256.0,
            "ffn_dim_multiplier": 1.0,
            "qk_norm": True,
            "z_image_modulation": True,
            "time_scale": 1000.0,
            "pad_tokens_multiple": 32,
        }
    )
    device = comfy.model_management.get_torch_device()
    config.set_inference_dtype(torch.float32, None, device=device)
    model = config.get_model({}, "", device=torch.device("cpu"))
    fill(model.diffusion_model, "z_image.", sharp=True)
    offload = comfy.model_management.unet_offload_device()
    return comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=offload)
