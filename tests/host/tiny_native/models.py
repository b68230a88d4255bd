"""Tiny random versions of models whose real sizes ComfyUI's loaders insist on."""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.text_encoders.boogu
import comfy.text_encoders.flux
import comfy.text_encoders.hunyuan_image
import comfy.text_encoders.ideogram4
import comfy.text_encoders.joyimage
import comfy.text_encoders.krea2
import comfy.text_encoders.mage_flow
import comfy.text_encoders.qwen3vl
import comfy.text_encoders.qwen_image
import comfy.text_encoders.qwen_vl
import comfy.text_encoders.z_image
import torch

from .weights import fill

# target: (its text encoder, its tokenizer, what the encoder is called inside the CLIP)
CLIP_TARGETS: dict[str, tuple[Callable[[], type], type, str]] = {
    "z-image": (
        comfy.text_encoders.z_image.te,
        comfy.text_encoders.z_image.ZImageTokenizer,
        "qwen3_4b",
    ),
    "flux2-klein": (
        comfy.text_encoders.flux.klein_te,
        comfy.text_encoders.flux.KleinTokenizer,
        "qwen3_4b",
    ),
    "flux2-klein-9b": (
        partial(comfy.text_encoders.flux.klein_te, model_type="qwen3_8b"),
        comfy.text_encoders.flux.KleinTokenizer8B,
        "qwen3_8b",
    ),
    "krea2": (
        comfy.text_encoders.krea2.te,
        comfy.text_encoders.krea2.Krea2Tokenizer,
        "qwen3vl_4b",
    ),
    "qwen-image": (
        comfy.text_encoders.qwen_image.te,
        comfy.text_encoders.qwen_image.QwenImageTokenizer,
        "qwen25_7b",
    ),
    "hunyuan-image": (
        partial(comfy.text_encoders.hunyuan_image.te, byt5=False),
        comfy.text_encoders.hunyuan_image.HunyuanImageTokenizer,
        "qwen25_7b",
    ),
    "mage-flow": (
        comfy.text_encoders.mage_flow.te,
        comfy.text_encoders.mage_flow.MageFlowTokenizer,
        "qwen3vl_4b",
    ),
    "boogu": (
        comfy.text_encoders.boogu.te,
        comfy.text_encoders.boogu.BooguTokenizer,
        "qwen3vl_8b",
    ),
    "joyimage": (
        comfy.text_encoders.joyimage.te,
        comfy.text_encoders.joyimage.JoyImageTokenizer,
        "qwen3vl_8b",
    ),
    "ideogram4": (
        comfy.text_encoders.ideogram4.te_qwen3vl,  # of a whole Qwen3-VL, which sees
        comfy.text_encoders.ideogram4.Ideogram4Qwen3VLTokenizer,
        "qwen3vl_8b",
    ),
    # Of no diffusion model that ComfyUI knows.
    "qwen3-vl-8b": (
        partial(comfy.text_encoders.qwen3vl.te, model_type="qwen3vl_8b"),
        comfy.text_encoders.qwen3vl.tokenizer(model_type="qwen3vl_8b"),
        "qwen3vl_8b",
    ),
    # No language model: what VLM From CLIP has to refuse.
    "sd15": (
        lambda: comfy.sd1_clip.SD1ClipModel,
        comfy.sd1_clip.SD1Tokenizer,
        "clip_l",
    ),
}
if importlib.util.find_spec("comfy.text_encoders.qwen_image21"):  # from ComfyUI 0.37
    import comfy.text_encoders.qwen_image21

    CLIP_TARGETS["qwen-image-2.1"] = (
        comfy.text_encoders.qwen_image21.te,
        comfy.text_encoders.qwen_image21.QwenImage21Tokenizer,
        "qwen3vl_8b",
    )
if importlib.util.find_spec("comfy.text_encoders.minimax"):
    import comfy.text_encoders.minimax

    CLIP_TARGETS["minimax-h3"] = (
        comfy.text_encoders.minimax.te,
        comfy.text_encoders.minimax.MiniMaxH3Tokenizer,
        "qwen3vl_32b",
    )
QWEN3_VL_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "depth": 3,
    "deepstack_visual_indexes": [0, 1],
}
QWEN2_5_VL_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "num_layers": 2,
}


def text_config(width: int, layers: int) -> dict[str, int]:
    """Config of the tiny Qwen by its native names; head_dim stays 128, which is fixed there."""
    return {
        "hidden_size": width,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
    }


def tiny_clip(target: str, width: int = 64, layers: int = 36) -> comfy.sd.CLIP:
    """The native text encoder of a target with a tiny Qwen in float32 and the real tokenizer.

    Only the class that recognises checkpoints by their size is passed by: the wrapper, the
    tokenizer, the template and the layers taken are those of the real loader. Vision towers are two
    or three blocks of width 32.
    """
    make, tokenizer, name = CLIP_TARGETS[target]
    pick = types.SimpleNamespace(clip=make(), tokenizer=tokenizer, params={})
    options = {"dtype": torch.float32, f"{name}_model_config": text_config(width, layers)}
    with tiny_vision():
        clip = comfy.sd.CLIP(pick, model_options=options)
    fill(getattr(clip.cond_stage_model, name).transformer)
    return clip


def tiny_flux_clip() -> comfy.sd.CLIP:
    """FLUX.1's two text encoders at their widths, T5 4096 and CLIP-L 768, with one layer each."""
    flux = comfy.text_encoders.flux
    make = flux.flux_clip(dtype_t5=torch.float32)
    pick = types.SimpleNamespace(clip=make, tokenizer=flux.FluxTokenizer, params={})
    options = {
        "dtype": torch.float32,
        "t5xxl_model_config": {"num_layers": 1, "d_ff": 64, "num_heads": 1},
        "clip_l_model_config": {"num_hidden_layers": 1, "intermediate_size": 64},
    }
    clip = comfy.sd.CLIP(pick, model_options=options)
    fill(clip.cond_stage_model)
    return clip


@contextmanager
def tiny_vision() -> Iterator[None]:
    """Native vision towers made meanwhile are tiny; their sizes are no part of model_options."""
    make = comfy.text_encoders.qwen_vl.Qwen2VLVisionTransformer

    def smaller(**sizes: Any) -> torch.nn.Module:
        tower = make(**(sizes | QWEN2_5_VL_VISION))
        tower.fullatt_block_indexes = [1]  # block 0 attends within windows, as most of them do
        return tower

    native = comfy.text_encoders.qwen3vl
    towers = dict.fromkeys(native.QWEN3VL_VISION, QWEN3_VL_VISION)
    with (
        mock.patch.object(comfy.text_encoders.qwen_vl, "Qwen2VLVisionTransformer", smaller),
        mock.patch.dict(native.QWEN3VL_VISION, towers),
        mock.patch.dict(native.QWEN3VL_VISION_COMMON, num_heads=2),
    ):
        yield


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
    return _tiny_model(config, "z_image.")


def tiny_qwen_image(width: int = 3584) -> comfy.model_patcher.ModelPatcher:
    """A Qwen-Image diffusion model of two blocks, dim 256, that reads CONDITIONING of `width`."""
    return _tiny_model(
        comfy.supported_models.QwenImage(
            {
                "image_model": "qwen_image",
                "in_channels": 64,
                "num_layers": 2,
                "num_attention_heads": 2,
                "joint_attention_dim": width,
            }
        ),
        "qwen_image.",
    )


def tiny_minimax_h3(width: int = 5120) -> comfy.model_patcher.ModelPatcher:
    """A MiniMax H3 of two blocks, 256 wide, that reads CONDITIONING of `width`."""
    return _tiny_model(
        comfy.supported_models.MiniMaxH3(
            {
                "image_model": "minimax_h3",
                "hidden_size": 256,
                "num_layers": 2,
                "token_refiner_num_layers": 1,
                "num_attention_heads": 2,
                "ffn_hidden_size": 128,
                "text_dim": width,
                "time_embed_hidden_size": 64,
                "time_embed_dim": 64,
            }
        ),
        "minimax_h3.",
    )


def tiny_depth(width: int = 64) -> comfy.model_patcher.ModelPatcher:
    """A Depth Anything 3 for single pictures: four blocks of `width`, one head."""
    import comfy.ldm.depth_anything_3.model as native

    blocks = {"hidden_size": width, "num_hidden_layers": 4, "num_attention_heads": 1}
    with mock.patch.dict(native._BACKBONE_PRESETS, vits=blocks | {"use_swiglu_ffn": False}):
        return _tiny_model(
            comfy.supported_models.DepthAnything3(
                {
                    "image_model": "DepthAnything3",
                    "backbone_name": "vits",
                    "out_layers": [0, 1, 2, 3],
                    "head_dim_in": width,
                    "head_features": 16,
                    "head_out_channels": [8, 8, 8, 8],
                }
            ),
            "depth.",
        )


def _tiny_model(config: Any, prefix: str) -> comfy.model_patcher.ModelPatcher:
    """The random diffusion model of a config, in float32, as ComfyUI's loader would wrap it."""
    device = comfy.model_management.get_torch_device()
    config.set_inference_dtype(torch.float32, None, device=device)
    model = config.get_model({}, "", device=torch.device("cpu"))
    fill(model.diffusion_model, prefix, sharp=True)
    offload = comfy.model_management.unet_offload_device()
    return comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=offload)
