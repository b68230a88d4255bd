"""Writes tiny random checkpoints that native loaders take, under the names of the real ones.

Runs itself with ComfyUI's Python, since ComfyUI's own classes say which weights there must be:
`python tiny_checkpoints.py COMFYUI KIND TARGET [key=value ...]`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from comfy_find import Checkout

# Every file has the place and name that ComfyUI's own templates ask for.
MODELS = {
    "diffusion_models/z_image_turbo_bf16.safetensors": (
        "stub", {"kind": "z-image", "width": 2560},
    ),
    "diffusion_models/qwen_image_edit_fp8_e4m3fn.safetensors": (
        "stub", {"kind": "qwen-image", "width": 3584},
    ),
    "diffusion_models/qwen_image_edit_2511_fp8mixed.safetensors": (
        "stub", {"kind": "qwen-image", "width": 3584},
    ),
    "diffusion_models/qwen_image_2512_fp8_e4m3fn.safetensors": (
        "stub", {"kind": "qwen-image", "width": 3584},
    ),
    "diffusion_models/minimax_h3_ref2va_pruned_int8_convrot.safetensors": (
        "stub", {"kind": "minimax-h3", "width": 5120},
    ),
    # Of Qwen-Image 2.1 there are only the names, so that the page can choose them.
    "diffusion_models/qwen_image_2.1_int8_convrot.safetensors": (
        "stub", {"kind": "qwen-image-2.1", "width": 4096},
    ),
    "vae/qwen_image_2.1_vae_bf16.safetensors": ("stub", {"kind": "vae", "width": 4}),
    "text_encoders/qwen3vl_8b_int8_convrot.safetensors": ("stub", {"width": 4096, "layers": 6}),
    "text_encoders/qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors": (
        "stub", {"width": 5120, "layers": 50},
    ),
    "text_encoders/qwen_3_4b.safetensors": ("stub", {"width": 2560, "layers": 30}),
    "text_encoders/qwen3vl_4b_fp8_scaled.safetensors": ("stub", {"width": 2560, "layers": 36}),
    "text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors": (
        "stub", {"width": 3584, "layers": 8},
    ),
    "vae/ae.safetensors": ("taesd", {}),
    "diffusion_models/flux-2-klein-4b.safetensors": ("klein", {"width": 7680}),
    "diffusion_models/tiny_klein_192.safetensors": ("klein", {"width": 192}),
    "vae/flux2-vae.safetensors": ("flux2_vae", {}),
    "diffusion_models/krea2_turbo_fp8_scaled.safetensors": ("krea2", {"width": 30720}),
    "vae/qwen_image_vae.safetensors": ("wan_vae", {}),
    "diffusion_models/flux1-dev.safetensors": ("flux1", {"width": 4096}),
    "diffusion_models/qwen2vl-flux.safetensors": ("flux1", {"width": 4096}),
    "loras/krea2_style_reference.safetensors": ("stub", {"kind": "lora", "width": 0}),
    "vae/minimax_h3_video_vae_fp16.safetensors": ("h3_vae", {}),
    "controlnet/flux-canny-controlnet-v3.safetensors": ("flux_controlnet", {"width": 4096}),
    "controlnet/flux-controlnet-union.safetensors": ("flux_union", {"width": 4096}),
    "geometry_estimation/depth_anything_3_mono_large.safetensors": (
        "stub", {"kind": "depth", "width": 64},
    ),
    "text_encoders/clip_l.safetensors": ("stub", {"width": 768}),
    "text_encoders/t5xxl_fp16.safetensors": ("stub", {"width": 4096}),
}  # fmt: skip
SPECIAL_IDS = {"image": 151655, "video": 151656, "vision_start": 151652, "vision_end": 151653}


def write_models(checkout: Checkout, folder: Path, names: Iterable[str] = tuple(MODELS)) -> Path:
    """Fills a models folder; seconds for all of them.

    Args:
        checkout: the ComfyUI whose classes and Python are used.
        folder: becomes `models/`.
        names: which of MODELS.

    Returns:
        The folder.
    """
    jobs = [(MODELS[name][0], folder / name, MODELS[name][1]) for name in names]
    _run(checkout, jobs)
    return folder


def write_qwen3vl(checkout: Checkout, folder: Path, width: int = 64, layers: int = 36) -> Path:
    """Writes a Qwen3-VL in Hugging Face layout whose text weights are those of TestTinyClip.

    Same width and layers give the same text hidden states as the native encoder, because both
    take their weights from the parameters' names. rope_theta is that of Qwen3 (1e6), the
    tokenizer that of the checkout, the vision tower tiny (2 blocks, width 32, DeepStack after
    the first and the second).

    Returns:
        The folder: config.json, model.safetensors, tokenizer and preprocessor files.
    """
    _run(checkout, [("qwen3vl", folder, {"width": width, "layers": layers})])
    return folder


def write_stub(path: Path, width: int, layers: int = 2, kind: str = "clip") -> Path:
    """Writes a stub file that tiny_native's loaders replace by a tiny model (see stubs.py).

    Args:
        path: where.
        width: of the CONDITIONING that the model gives or reads.
        layers: of a text encoder.
        kind: `clip`, or the diffusion model's name in stubs.MODELS.
    """
    metadata = {"tiny_native": kind, "width": str(width), "layers": str(layers)}
    header = json.dumps({"__metadata__": metadata}).encode()
    header += b" " * (-len(header) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def _run(checkout: Checkout, jobs: list[tuple[str, Path, dict[str, Any]]]) -> None:
    for kind, target, options in jobs:
        if kind == "stub":
            write_stub(target, **options)
    rest = [(kind, str(target), options) for kind, target, options in jobs if kind != "stub"]
    if not rest:
        return
    done = subprocess.run(
        [str(checkout.python), __file__, str(checkout.path), json.dumps(rest)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"tiny checkpoints failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


# --- below runs in ComfyUI's Python -------------------------------------------------------------


def _weights():
    path = Path(__file__).parent / "tiny_native" / "weights.py"
    spec = importlib.util.spec_from_file_location("tiny_native_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _save(module, path: Path, drop: str = "-", rename: tuple[str, str] = ("-", "-")) -> None:
    """Saves a state dict, or a module's, without the names that begin with `drop`, some renamed."""
    from safetensors.torch import save_file

    state = module if isinstance(module, dict) else module.state_dict()
    kept = {name: x.contiguous() for name, x in state.items() if not name.startswith(drop)}
    tensors = {name.replace(*rename): x for name, x in kept.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(path))


def _flux_config(**changes: Any) -> dict[str, Any]:
    common = {"hidden_size": 128, "num_heads": 1, "depth": 1, "depth_single_blocks": 1}
    return common | changes


def make_klein(path: Path, width: int) -> None:
    """FLUX.2 klein: hidden 128, one block of each kind, context `width` (7680 in the 4B)."""
    import comfy.ops
    from comfy.ldm.flux.model import Flux

    model = Flux(
        **_flux_config(
            in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=width,
            mlp_ratio=3.0, axes_dim=[32] * 4, theta=2000, patch_size=1, qkv_bias=False,
            guidance_embed=False, txt_ids_dims=[3], global_modulation=True, mlp_silu_act=True,
            ops_bias=False, default_ref_method="index", ref_index_scale=10.0,
        ),
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    _save(_weights().fill(model, "klein.", sharp=True), path)


def make_krea2(path: Path, width: int) -> None:
    """Krea 2: one block of width 128, context `width` (30720).

    The loader takes 20 heads and their feed-forward for granted, which are large at the real 12
    layers of 2560; 96 layers of 320 are as wide together.
    """
    import comfy.ops
    from comfy.ldm.krea2.model import SingleStreamDiT

    layer = 320
    model = SingleStreamDiT(
        features=128, heads=1, kvheads=1, layers=1, txtdim=layer, txtlayers=width // layer,
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    _save(_weights().fill(model, "krea2.", sharp=True), path)


def _flux1_config(width: int) -> dict[str, Any]:
    return _flux_config(
        in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=width, mlp_ratio=4.0,
        axes_dim=[16, 56, 56], theta=10000, patch_size=2, qkv_bias=True, guidance_embed=True,
        txt_ids_dims=[],
    )  # fmt: skip


def make_flux1(path: Path, width: int) -> None:
    """FLUX.1 dev: hidden 128, one block of each kind, context `width` (4096), pooled 768."""
    import comfy.ops
    from comfy.ldm.flux.model import Flux

    model = Flux(**_flux1_config(width), operations=comfy.ops.disable_weight_init)
    _save(_weights().fill(model, "flux1.", sharp=True), path)


def make_flux_controlnet(path: Path, width: int) -> None:
    """A FLUX.1 ControlNet as XLabs publishes them, with a text input of its own."""
    import comfy.ops
    from comfy.ldm.flux.controlnet import ControlNetFlux

    model = ControlNetFlux(**_flux1_config(width), operations=comfy.ops.disable_weight_init)
    _weights().fill(model, "flux_controlnet.", sharp=True)
    _save(model, path, rename=("_norm.weight", "_norm.scale"))  # by which loaders know the format


def make_flux_union(path: Path, width: int) -> None:
    """A union ControlNet as InstantX publishes it for FLUX.1: diffusers' names, ten modes."""
    import comfy.ops
    from comfy.ldm.flux.controlnet import ControlNetFlux
    from comfy.utils import flux_to_diffusers

    model = ControlNetFlux(
        latent_input=True, num_union_modes=10, **_flux1_config(width),
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    state = _weights().fill(model, "flux_union.", sharp=True).state_dict()
    sizes = {"depth": 1, "depth_single_blocks": 1, "hidden_size": model.hidden_size}
    named, seen = {}, set()
    for name, found in flux_to_diffusers(sizes).items():
        own, part = (found, None) if isinstance(found, str) else found[:2]
        if own in state and (part or own not in seen):  # some have a second name
            named[name] = state[own].narrow(*part) if part else state[own]
            seen.add(own)
    _save(named | {name: x for name, x in state.items() if name not in seen}, path)


def make_taesd(path: Path) -> None:
    """A 16-channel TAESD, for Z-Image and FLUX.1."""
    from comfy.taesd.taesd import TAESD

    model = _weights().fill(TAESD(latent_channels=16))
    _center(model.taesd_decoder[-1], 0.5)
    _save(model, path, drop="vae_s")


def make_h3_vae(path: Path) -> None:
    """The small video VAE that is made for MiniMax H3's latents."""
    from comfy.taesd.taehv import TAEHV

    model = _weights().fill(TAEHV(latent_channels=24), "h3_vae.")
    _center(model.decoder[-1], 0.5)
    _save(model, path)


def make_flux2_vae(path: Path) -> None:
    """FLUX.2's VAE with a decoder of 32 channels; without its encoder, which has a fixed size."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config = {
        "double_z": True, "z_channels": 32, "resolution": 256, "in_channels": 3, "out_ch": 3,
        "ch": 32, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [],
        "dropout": 0.0, "batch_norm_latent": True,
    }  # fmt: skip
    model = _weights().fill(AutoencoderKL(ddconfig=config, embed_dim=32))
    _center(model.decoder.conv_out, 0.0)
    _save(model, path, drop="encoder.")


def make_wan_vae(path: Path) -> None:
    """The video VAE that Qwen-Image uses, of width 8."""
    from comfy.ldm.wan.vae import WanVAE

    model = _weights().fill(
        WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True]), "wan_vae."
    )
    _center(model.decoder.head[-1], 0.0)
    _save(model, path)


def _center(last, grey: float) -> None:
    """Keeps a decoder's random colours around grey; clipped pictures would all look alike."""
    last.weight.data.mul_(0.3)
    last.bias.data.fill_(grey)


def make_qwen3vl(folder: Path, width: int, layers: int) -> None:
    """See `write_qwen3vl`."""
    import torch
    from transformers import AutoConfig, Qwen3VLForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    config = qwen3vl_config(width, layers)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(AutoConfig.from_pretrained(folder))
    shapes = {name: tuple(x.shape) for name, x in model.named_parameters()}
    weights = _weights()
    tensors = {
        name: weights.seeded(name.replace("language_model.", ""), shape).contiguous()
        for name, shape in shapes.items()
        if name != "lm_head.weight"
    }
    from safetensors.torch import save_file

    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    pixels = {"shortest_edge": 65536, "longest_edge": 16777216}
    picture = {
        "size": pixels, "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "processor_class": "Qwen3VLProcessor",
    }  # fmt: skip
    files = {
        "preprocessor_config.json": {"image_processor_type": "Qwen2VLImageProcessorFast"},
        "video_preprocessor_config.json": {"video_processor_type": "Qwen3VLVideoProcessor"},
    }
    for name, kind in files.items():
        (folder / name).write_text(json.dumps(picture | kind, indent=2), encoding="utf-8")
    import comfy.text_encoders

    tokenizer = Path(comfy.text_encoders.__path__[0]) / "qwen25_tokenizer"
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(tokenizer / file, folder / file)


def qwen3vl_config(width: int, layers: int) -> dict[str, Any]:
    """config.json as on the hub: transformers 4.57 and 5.x both read rope_theta from there."""
    text = {
        "model_type": "qwen3_vl_text", "vocab_size": 151936, "hidden_size": width,
        "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 1,
        "num_key_value_heads": 1, "head_dim": 128, "hidden_act": "silu", "rms_norm_eps": 1e-6,
        "max_position_embeddings": 262144, "rope_theta": 1000000.0, "attention_bias": False,
        "rope_scaling": {
            "rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20],
        },
        "tie_word_embeddings": True, "dtype": "float32", "bos_token_id": 151643,
        "eos_token_id": 151645,
    }  # fmt: skip
    vision = {
        "model_type": "qwen3_vl", "depth": 2, "hidden_size": 32, "intermediate_size": 64,
        "num_heads": 2, "in_channels": 3, "patch_size": 16, "spatial_merge_size": 2,
        "temporal_patch_size": 2, "out_hidden_size": width, "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [0, 1], "hidden_act": "gelu_pytorch_tanh",
    }  # fmt: skip
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl",
        "transformers_version": "4.57.3", "image_token_id": SPECIAL_IDS["image"],
        "video_token_id": SPECIAL_IDS["video"],
        "vision_start_token_id": SPECIAL_IDS["vision_start"],
        "vision_end_token_id": SPECIAL_IDS["vision_end"],
        "text_config": text, "vision_config": vision, "tie_word_embeddings": True,
    }  # fmt: skip


def main(comfyui: str, jobs: str) -> None:
    """Makes [[kind, path, options], ...], given as JSON."""
    sys.path.insert(0, comfyui)
    from comfy.cli_args import args

    args.cpu = True
    for kind, target, options in json.loads(jobs):
        globals()[f"make_{kind}"](Path(target), **options)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
