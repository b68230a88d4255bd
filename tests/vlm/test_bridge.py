"""The T5 Bridge: what arrives behind txt_in is what Qwen2VL-Flux's own embedder gives."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import vlm
from vlm.connectors.bridge import Linear, bridge, load_embedder

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "reference.safetensors")


def golden(name):
    return GOLDEN[f"qwen2vl_flux.{name}"]


def linear(name):
    return Linear(golden(f"{name}.weight"), golden(f"{name}.bias"), name)


def random_linear(out, into, seed=0):
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, into, generator=g) / into**0.5
    return Linear(weight, torch.randn(out, generator=g) / 10, f"random {seed}")


def test_golden_stream():
    txt_in = linear("context_embedder")
    text = bridge(vlm.Tokens(golden("t5_hidden")), linear("t5_embedder"), txt_in)
    arrives = txt_in(torch.cat([golden("connector_out"), text.tokens.states], dim=1))
    assert text.tokens.states.dtype == torch.float32
    assert (arrives - golden("txt_stream")).abs().max() <= 1e-4
    assert text.error <= 1e-5


def test_it_is_the_pseudoinverse():
    txt_in, embedder = linear("context_embedder"), linear("t5_embedder")
    wanted = embedder(golden("t5_hidden").double()) - txt_in.bias.double()
    exact = wanted @ torch.linalg.pinv(txt_in.weight.double()).T
    text = bridge(vlm.Tokens(golden("t5_hidden")), embedder, txt_in)
    assert (text.tokens.states - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize("bias", [True, False])
def test_random_layers_and_batches(bias):
    txt_in, embedder = random_linear(96, 128, 1), random_linear(96, 64, 2)
    if not bias:
        txt_in = Linear(txt_in.weight, None, txt_in.name)
    states = torch.randn(2, 7, 64, generator=torch.Generator().manual_seed(3))
    text = bridge(vlm.Tokens(states), embedder, txt_in)
    wanted = embedder(states)
    assert text.tokens.states.shape == (2, 7, 128)
    assert (txt_in(text.tokens.states) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_error_of_a_model_in_bfloat16():
    """What the help page states: rounding the solution costs what rounding any input does."""
    txt_in, embedder = random_linear(384, 512, 4), random_linear(384, 512, 5)
    states = torch.randn(1, 32, 512, generator=torch.Generator().manual_seed(6))
    wanted = embedder(states)
    solved = bridge(vlm.Tokens(states), embedder, txt_in).tokens.states
    low = Linear(txt_in.weight.bfloat16(), txt_in.bias.bfloat16(), "bfloat16")
    arrives = low(solved.bfloat16()).float()
    error = float((arrives - wanted).abs().max() / wanted.abs().max())
    plain = Linear(embedder.weight.bfloat16(), embedder.bias.bfloat16(), "bfloat16")
    usual = float((plain(states.bfloat16()).float() - wanted).abs().max() / wanted.abs().max())
    assert 1e-4 < error < 0.03 and error < 8 * usual


def test_the_map_stays():
    token_map = vlm.Tokens(torch.ones(1, 5, 40)).token_map
    text = vlm.Tokens(golden("t5_hidden"), token_map)
    assert bridge(text, linear("t5_embedder"), linear("context_embedder")).tokens.n == 5


def test_misfits():
    txt_in, embedder = random_linear(24, 40), random_linear(24, 32)
    with pytest.raises(ValueError, match="The text is 16 wide, random 0 reads 32.*DualCLIPLoader"):
        bridge(vlm.Tokens(torch.ones(1, 2, 16)), embedder, txt_in)
    with pytest.raises(ValueError, match="gives 24 dimensions, the text stream .* has 30"):
        bridge(vlm.Tokens(torch.ones(1, 2, 32)), embedder, random_linear(30, 40))
    flat = Linear(txt_in.weight[:1].expand(24, 40).clone(), txt_in.bias, "flat")
    with pytest.raises(ValueError, match="txt_in of flat cannot give .* depend on one another"):
        bridge(vlm.Tokens(torch.ones(1, 2, 32)), embedder, flat)


def test_embedder_files(tmp_path):
    weights = {"weight": torch.randn(24, 40), "bias": torch.randn(24)}
    torch.save({f"module.{key}": value for key, value in weights.items()}, tmp_path / "t5.pt")
    embedder = load_embedder(tmp_path / "t5.pt")
    assert torch.equal(embedder.weight, weights["weight"]) and embedder.name == "t5.pt"
    for wrong in (
        {"weight": torch.ones(24, 40)},
        {"linear.weight": torch.ones(24, 40), "linear.bias": torch.ones(24)},
        {"weight": torch.ones(24, 40), "bias": torch.ones(40)},
        {"0.weight": torch.ones(24, 40), "1.weight": torch.ones(2, 24), "0.bias": torch.ones(24)},
    ):
        save_file(wrong, tmp_path / "wrong.safetensors")
        with pytest.raises(ValueError, match="wrong.safetensors is no T5 embedder: it holds"):
            load_embedder(tmp_path / "wrong.safetensors")
