"""What weights of words do to the models that read them: ComfyUI's own classes, random weights.

The numbers of the help page of VLM Encode are printed here (`-s`): how much the prediction changes
when one token's states are multiplied, as a share of what changes when they become another
token's. Trained weights may differ, but not where a norm comes first: there nothing is left of a
factor.
"""

from __future__ import annotations

import sys

import comfy.ops
import pytest
import torch
from comfy.ldm.flux.model import Flux
from comfy.ldm.krea2.model import SingleStreamDiT
from tiny_native.models import tiny_qwen_image, tiny_z_image
from tiny_native.weights import fill

TOKENS, AT = 12, 5


def krea2():
    """Twelve layers of 320, two blocks."""
    made = SingleStreamDiT(
        features=128, heads=1, kvheads=1, layers=2, txtdim=320, operations=comfy.ops.manual_cast
    )
    return fill(made, "krea2.", sharp=True), 12 * 320, 16


def klein():
    """Two blocks of each kind."""
    made = Flux(
        hidden_size=128, num_heads=1, depth=2, depth_single_blocks=2, in_channels=128,
        out_channels=128, vec_in_dim=None, context_in_dim=192, mlp_ratio=3.0, axes_dim=[32] * 4,
        theta=2000, patch_size=1, qkv_bias=False, guidance_embed=False, txt_ids_dims=[3],
        global_modulation=True, mlp_silu_act=True, ops_bias=False,
        operations=comfy.ops.manual_cast,
    )  # fmt: skip
    return fill(made, "klein.", sharp=True), 192, 128


def z_image():
    return tiny_z_image(64).model.diffusion_model, 64, 16


def qwen_image():
    return tiny_qwen_image(64).model.diffusion_model, 64, 16


READERS = {"krea2": krea2, "flux2-klein-4b": klein, "z-image": z_image, "qwen-image": qwen_image}


def predict(model, context: torch.Tensor, channels: int) -> torch.Tensor:
    """The model's prediction, [1, C, H, W]."""
    noise = torch.randn(1, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    if type(model).__name__ == "QwenImageTransformer2DModel":
        return model(noise[:, :, None], torch.tensor([0.5]), context)
    if type(model).__name__ == "NextDiT":
        return model(noise, torch.tensor([0.5]), context, context.shape[1])
    return model(noise, torch.tensor([0.5]), context)


def share(target: str, weight: float) -> float:
    """How much a weight of one token changes, of what another token in its place changes."""
    model, width, channels = READERS[target]()
    context = torch.randn(1, TOKENS, width, generator=torch.Generator().manual_seed(0))
    weighed, other = context.clone(), context.clone()
    weighed[:, AT] *= weight
    other[:, AT] = context[:, AT + 1]
    with torch.no_grad():
        plain, *changed = (predict(model, each, channels) for each in (context, weighed, other))
    moved, replaced = ((each - plain).norm().item() for each in changed)
    assert replaced > 0
    return moved / replaced


@pytest.mark.parametrize("target", READERS)
def test_a_weight_counts_where_no_norm_comes_first(target):
    from pack.vlm.targets import find_target

    shares = {weight: share(target, weight) for weight in (0.5, 1.3, 2.0)}
    told = ", ".join(f"{weight:g}: {value:.4f}" for weight, value in shares.items())
    sys.stderr.write(f"\n{target}: {told}\n")
    if find_target(target).norms_tokens:
        assert max(shares.values()) < 1e-3
    else:
        assert min(shares.values()) > 0.02
