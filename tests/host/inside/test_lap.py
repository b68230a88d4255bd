"""LAP weights out of a Krea 2 checkpoint: the same numbers as ComfyUI's own text fusion."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

LAYERS, WIDTH, TOKENS = 12, 160, 75
CLOSE = 2e-6  # relative to the largest value, float32


def krea2(heads: int, key_heads: int):
    """A small Krea 2 of ComfyUI's, random in every weight."""
    import comfy.ops
    from comfy.ldm.krea2.model import SingleStreamDiT

    model = SingleStreamDiT(
        features=64, tdim=32, txtdim=WIDTH, heads=4, kvheads=2, layers=1, txtlayers=LAYERS,
        txtheads=heads, txtkvheads=key_heads, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    noise = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        size = 1 if weight.ndim == 1 else weight.shape[-1]
        weight.data = torch.randn(weight.shape, generator=noise) / (2 * size**0.5)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize(("heads", "key_heads"), [(20, 20), (10, 5)])
def test_equals_comfyuis_text_fusion(tmp_path, prefix, heads, key_heads):
    from pack.vlm.connectors.load import load_connector

    model = krea2(heads, key_heads)
    path = tmp_path / "krea2.safetensors"
    save_file({prefix + name: value for name, value in model.state_dict().items()}, path)
    lap = load_connector(path).module
    assert (lap.sizes.heads, lap.sizes.key_heads, lap.sizes.layers) == (heads, key_heads, LAYERS)
    stack = torch.randn(2, LAYERS, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    ours = lap(lambda first, stop: stack[:, :, first:stop], TOKENS)
    native = model.txtfusion(stack.transpose(1, 2))
    assert ours.shape == native.shape == (2, TOKENS, WIDTH)
    assert (ours - native).abs().max() <= CLOSE * native.abs().max()


def test_hidden_states_of_the_krea2_target(tmp_path, native, as_vlm):
    """Of what ComfyUI's own Krea 2 would get: every layer side by side, without the prefix."""
    import comfy.ops
    from comfy.ldm.krea2.model import TextFusionTransformer
    from pack.vlm.connectors.lap import lap_pool
    from pack.vlm.connectors.lap_file import read_lap
    from pack.vlm.tokens.select import select_layers

    model = as_vlm(native("krea2"))
    states = model.encode("a red house", target="krea2")
    layers = states.target.layers
    heads = 4
    fusion = TextFusionTransformer(
        len(layers), states.width, heads, 4, operations=comfy.ops.disable_weight_init
    )
    noise = torch.Generator().manual_seed(0)
    for weight in fusion.parameters():
        weight.data = torch.randn(weight.shape, generator=noise) / 8
    lap = read_lap(fusion.state_dict(), tmp_path / "none.pt")
    side_by_side = select_layers(states).states.unflatten(2, (len(layers), states.width))
    expected = fusion(side_by_side.float()).detach()
    ours = lap_pool(states, lap).states.float()
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 2e-5 * expected.abs().max()
