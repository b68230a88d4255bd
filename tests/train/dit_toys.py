"""Toy pipelines as diffusers saves them: real classes, random weights, small."""

from pathlib import Path

import torch
from PIL import Image


def write_flux1(folder, width=4096, pooled=768):
    """`transformer` (2 double, 2 single blocks), `vae` and `scheduler` of a FLUX.1 [dev]."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    model = FluxTransformer2DModel(
        in_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=width, pooled_projection_dim=pooled,
        guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    model.save_pretrained(Path(folder) / "transformer")
    return _write_rest(Path(folder), {"use_dynamic_shifting": True, "shift": 3.0})


def write_z_image(folder, width=2560):
    """The same of a Z-Image: 1 + 1 refiner blocks, 2 layers."""
    from diffusers import ZImageTransformer2DModel

    torch.manual_seed(0)
    model = ZImageTransformer2DModel(
        dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=width,
        axes_dims=[4, 6, 6], axes_lens=[128, 64, 64],
    )  # fmt: skip
    model.save_pretrained(Path(folder) / "transformer")
    return _write_rest(Path(folder), {"shift": 3.0})


def write_pictures(folder, captions, side=64):
    """`captions.jsonl` with a picture of its own for each: a colour and a shade across it."""
    import json

    draw = torch.Generator().manual_seed(0)
    lines = []
    for number, caption in enumerate(captions):
        colour = torch.randint(0, 256, (3, 1, 1), generator=draw)
        shade = torch.linspace(0.2, 1, side)[None, None].expand(3, side, side)
        pixels = (colour * shade).to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(Path(folder) / f"{number}.png")
        lines.append(json.dumps({"caption": caption, "image": f"{number}.png"}))
    file = Path(folder) / "captions.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def _write_rest(folder, schedule):
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4), norm_num_groups=2, latent_channels=16,
        scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    vae.save_pretrained(folder / "vae")
    FlowMatchEulerDiscreteScheduler(**schedule).save_pretrained(folder / "scheduler")
    return folder
