"""Connectors: read from their weights, equal to the reference, refused where they do not fit."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

import vlm
from vlm.connectors.alignnet import CHUNK

GOLDEN = Path(__file__).parents[1] / "golden" / "reference.safetensors"
FORMS = ("cnn", "scale", "mean")


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN)


@pytest.fixture
def put(tmp_path):
    """`put(weights, name)`: a file of them."""

    def write(weights, name="connector.safetensors"):
        weights = {key: value.contiguous().clone() for key, value in weights.items()}
        if name.endswith(".safetensors"):
            save_file(weights, tmp_path / name)
        else:
            torch.save(weights, tmp_path / name)
        return tmp_path / name

    return write


def alignnet(form="cnn", width=32, layers=7, inside=20, out=20, pooled=12, seed=0, kernel=5):
    """Random weights of an AlignNet under the released names."""
    g = torch.Generator().manual_seed(seed)

    def some(*shape):
        return torch.randn(*shape, generator=g) / shape[-1] ** 0.5

    mix = {"cnn": {"conv.weight": some(1, layers, kernel, kernel), "conv.bias": some(1)}}
    mix |= {"scale": {"cha_scale": some(1, layers, 1, 1)}, "mean": {}}
    return mix[form] | {
        "mlp.layernorm.weight": 1 + some(width),
        "mlp.layernorm.bias": some(width),
        "mlp.projector.0.weight": some(inside, width),
        "mlp.projector.2.weight": some(out, inside),
        "mlp.fc.1.weight": some(pooled, out),
        "mlp.fc.1.bias": some(pooled),
    }


def usual(weights, stack):
    """X2I's AlignNet the usual way, on all layers in one tensor [B, L, N, D]."""
    if "conv.weight" in weights:
        mixed = F.conv2d(stack, weights["conv.weight"], weights["conv.bias"], padding="same")[:, 0]
    else:
        mixed = (stack * weights.get("cha_scale", torch.ones(1))).mean(dim=1)
    norm = weights["mlp.layernorm.weight"], weights["mlp.layernorm.bias"]
    mixed = F.layer_norm(mixed, mixed.shape[-1:], *norm, eps=1e-6)
    inside = F.gelu(mixed @ weights["mlp.projector.0.weight"].T)
    context = inside @ weights["mlp.projector.2.weight"].T
    head = F.linear(F.gelu(context), weights["mlp.fc.1.weight"], weights["mlp.fc.1.bias"])
    return context, head.mean(dim=1)


def matches(a, b, tolerance=1e-5):
    assert a.shape == b.shape and a.dtype == torch.float32
    return (a - b).abs().max() <= tolerance * max(1, b.abs().max())


@pytest.mark.parametrize("form", FORMS)
def test_alignnet_golden(golden, put, form):
    start = f"alignnet_{form}.weights."
    weights = {k.removeprefix(start): v for k, v in golden.items() if k.startswith(start)}
    out = vlm.load_connector(put(weights))(golden[f"alignnet_{form}.input"])
    assert matches(out.context, golden[f"alignnet_{form}.context"])
    assert matches(out.pooled, golden[f"alignnet_{form}.pooled"])


def test_linear_golden(golden, put):
    names = ("linear.weight", "linear.bias")
    weights = {f"module.{name}": golden[f"qwen2vl_flux.connector.{name}"] for name in names}
    connector = vlm.load_connector(put(weights, "connector.pt"))
    out = connector(vlm.Tokens(golden["qwen2vl_flux.image_hidden"]))
    assert matches(out.context, golden["qwen2vl_flux.connector_out"]) and out.pooled is None
    assert connector.title == "Qwen2VL-Flux connector" and connector.keep == "image"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [1, 3, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_alignnet_in_chunks_equals_the_whole(put, form, tokens):
    weights = alignnet(form, seed=tokens)
    stack = torch.randn(2, 7, tokens, 32, generator=torch.Generator().manual_seed(1))
    out = vlm.load_connector(put(weights))(stack)
    context, pooled = usual(weights, stack)
    assert matches(out.context, context) and matches(out.pooled, pooled)


def test_wide_kernel_has_a_wide_halo(put):
    weights = alignnet(kernel=9)
    stack = torch.randn(1, 7, CHUNK + 20, 32, generator=torch.Generator().manual_seed(2))
    out = vlm.load_connector(put(weights))(stack)
    assert matches(out.context, usual(weights, stack)[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("prefix", ["", "module.", "proj.", "module.model.proj_t5."])
def test_alignnet_under_any_prefix(put, form, prefix):
    weights = alignnet(form)
    file = put({prefix + key: value for key, value in weights.items()}, "proj.bin")
    connector = vlm.load_connector(file)
    assert connector.reads_all_layers and connector.module.form == form
    assert (connector.in_width, connector.width, connector.pooled) == (32, 20, 12)
    assert connector.layers_read == (None if form == "mean" else 7)


def test_alignnet_in_x2is_container(tmp_path):
    config = {"in_channels": 7, "input_dim": 32, "use_t5": False, "use_cnn": True}
    torch.save({"config": config, "state_dict": alignnet()}, tmp_path / "qwen_proj.pt")
    assert vlm.load_connector(tmp_path / "qwen_proj.pt").layers_read == 7


@pytest.mark.parametrize("form", FORMS)
def test_alignnet_on_hidden_states(tiny, put, picture, form):
    v = tiny("qwen2_5_vl", 6)
    h = v.encode("a red house", images=[picture(96, 130)], target="flux1")
    weights = alignnet(form, width=64)
    out = vlm.load_connector(put(weights))(h)
    context, pooled = usual(weights, h.layers(range(7)))
    assert matches(out.context, context) and matches(out.pooled, pooled)
    assert out.tokens.token_map == h.token_map
    assert len(h.store.state(3)) == 2  # a prefix and the rest: chunks go across


def test_alignnet_on_filtered_and_weighed_hidden_states(tiny, put):
    h = tiny("qwen2_5_vl", 6).encode("a red house at sunset, seen from the sea", target="flux1")
    few = h.take(range(3, 12)).weigh(torch.linspace(0, 1, 9))
    weights = alignnet(width=64)
    out = vlm.load_connector(put(weights))(few)
    assert matches(out.context, usual(weights, few.layers(range(7)))[0])
    assert out.tokens.token_map["n"] == 9


def test_alignnet_drops_what_the_target_never_sees(tiny, put):
    h = tiny("qwen2_5_vl", 6).encode("a red house", target="qwen-image")
    weights = alignnet(width=64)
    out = vlm.load_connector(put(weights))(h)
    context, pooled = usual(weights, h.layers(range(7)))
    assert h.dropped and matches(out.context, context[:, h.dropped :])
    assert matches(out.pooled, pooled) and out.tokens.token_map["n"] == h.n - h.dropped


def test_alignnet_in_bfloat16_states(put):
    weights = alignnet()
    stack = torch.randn(1, 7, 150, 32, generator=torch.Generator().manual_seed(3)).bfloat16()
    out = vlm.load_connector(put(weights))(stack)
    context, _ = usual(weights, stack.float())
    error = (out.context - context).abs().max() / context.abs().max()
    assert out.context.dtype == torch.float32 and error < 0.02


def test_linear_reads_the_last_normed_layer(tiny, put, picture):
    h = tiny("qwen2_vl", 4).encode("x", images=[picture(64, 64)], target="flux1")
    weights = {"linear.weight": torch.randn(9, 64), "linear.bias": torch.randn(9)}
    connector = vlm.load_connector(put(weights))
    out = connector(h)
    expected = F.linear(h.layer(-1), weights["linear.weight"], weights["linear.bias"])
    assert matches(out.context, expected) and out.tokens.token_map == h.token_map
    assert torch.equal(connector(vlm.select_layers(h, -1)).context, out.context)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_linear_with_the_papers_norm(put, norm):
    module = nn.LayerNorm(9) if norm == "layer" else nn.RMSNorm(9, eps=1e-5)
    weights = {"linear.weight": torch.randn(9, 6), "linear.bias": torch.randn(9)}
    weights |= {f"norm.{key}": torch.randn(9) for key in module.state_dict()}
    module.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith("norm")})
    connector = vlm.load_connector(put(weights))
    states = torch.randn(2, 5, 6)
    expected = module(F.linear(states, weights["linear.weight"], weights["linear.bias"]))
    assert matches(connector(vlm.Tokens(states)).context, expected.detach())
    assert connector.title == "Qwen2VL-Flux connector with a norm"


@pytest.mark.parametrize(
    ("module", "title"),
    [
        (nn.Linear(6, 9, bias=False), "linear layer"),
        (nn.Linear(6, 9), "linear layer"),
        (nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 9)), "MLP of 2 layers"),
        (
            nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 9)),
            "MLP of 2 layers",
        ),
        (nn.Sequential(*[nn.Linear(6, 6), nn.GELU()] * 6, nn.Linear(6, 9)), "MLP of 7 layers"),
    ],
)
def test_linear_layers_and_mlps(put, module, title):
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    connector = vlm.load_connector(put({f"net.{k}": v for k, v in module.state_dict().items()}))
    states = torch.randn(2, 5, 6)
    assert matches(connector(vlm.Tokens(states)).context, module(states).detach())
    assert (connector.title, connector.in_width, connector.width) == (title, 6, 9)


def test_named_mlp_with_a_norm_before(put):
    weights = {"fc1.weight": torch.randn(7, 6), "fc2.weight": torch.randn(9, 7)}
    weights |= {"ln.weight": torch.randn(6), "ln.bias": torch.randn(6)}
    states = torch.randn(1, 5, 6)
    expected = F.layer_norm(states, (6,), weights["ln.weight"], weights["ln.bias"])
    expected = F.gelu(expected @ weights["fc1.weight"].T) @ weights["fc2.weight"].T
    assert matches(vlm.load_connector(put(weights))(vlm.Tokens(states)).context, expected)


def test_scale_and_shift(put):
    weights = {"scale": torch.randn(6), "shift": torch.randn(6)}
    connector = vlm.load_connector(put(weights))
    states = torch.randn(1, 5, 6)
    expected = states * weights["scale"] + weights["shift"]
    assert torch.equal(connector(vlm.Tokens(states)).context, expected)
    assert connector.title == "scale per dimension"


def test_half_precision_files_give_float32(put):
    weights = {"weight": torch.randn(9, 6).half()}
    out = vlm.load_connector(put(weights))(vlm.Tokens(torch.randn(1, 5, 6).bfloat16()))
    assert out.context.dtype == torch.float32


@pytest.mark.parametrize(
    ("width", "layers", "form", "name", "made_for", "runs"),
    [
        (3584, 29, "cnn", "proj.safetensors", "Qwen2.5-VL-7B or MiniCPM-o 2.6", True),
        (3584, 29, "cnn", "MiniCPM-o_proj.safetensors", "MiniCPM-o 2.6", False),
        (2048, 37, "cnn", "proj.safetensors", "Qwen2.5-VL-3B or InternVL2.5-4B", True),
        (2048, 37, "cnn", "internvl2.5-4b.safetensors", "InternVL2.5-4B", True),
        (896, 25, "scale", "proj.safetensors", "InternVL2.5-1B", True),
        (3584, 29, "mean", "proj.safetensors", "Qwen2.5-VL-7B or MiniCPM-o 2.6", True),
        (64, 7, "cnn", "proj.safetensors", "", True),
    ],
)
def test_who_it_was_made_for(put, width, layers, form, name, made_for, runs):
    weights = alignnet(form, width, layers, inside=8, out=8, pooled=4)
    connector = vlm.load_connector(put(weights, name))
    assert connector.made_for == made_for
    assert (connector.warning == "") is runs
    if not runs:
        assert "no model family of this pack can feed it" in connector.warning


def test_misfits_say_both_numbers_and_the_model(tiny, put):
    h = tiny("qwen2_5_vl", 6).encode("a red house", target="flux1")
    big = put(alignnet(width=3584, layers=29, inside=8), "x2i.safetensors")
    with pytest.raises(ValueError, match="reads 3584 dimensions, these have 64.*Qwen2.5-VL-7B"):
        vlm.load_connector(big)(h)
    deep = put(alignnet(width=64, layers=29))
    with pytest.raises(ValueError, match="reads 29 layers, embeddings included, this VLM has 7"):
        vlm.load_connector(deep)(h)
    linear = put({"linear.weight": torch.ones(8, 3584), "linear.bias": torch.ones(8)})
    with pytest.raises(ValueError, match="reads 3584 dimensions, these have 64.*Qwen2-VL-7B"):
        vlm.load_connector(linear)(h)
    with pytest.raises(ValueError, match="reads 3584 dimensions, these have 6.*Qwen2-VL-7B"):
        vlm.load_connector(linear)(vlm.Tokens(torch.ones(1, 2, 6)))
    other = put({"weight": torch.ones(8, 6)})
    with pytest.raises(ValueError, match="Load the VLM that it was trained on"):
        vlm.load_connector(other)(h)


def test_alignnet_needs_all_layers(put):
    connector = vlm.load_connector(put(alignnet()))
    with pytest.raises(ValueError, match="reads all layers of a VLM, not one"):
        connector(vlm.Tokens(torch.ones(1, 4, 32)))
    with pytest.raises(TypeError, match="reads hidden states, this is a list"):
        connector([1])
    with pytest.raises(TypeError, match="reads Tokens, this is a list"):
        vlm.load_connector(put({"weight": torch.ones(2, 2)}))([1])


@pytest.mark.parametrize("form", FORMS)
def test_every_missing_weight_is_named(put, form):
    weights = alignnet(form)
    for name in weights:
        if name == "cha_scale":
            continue  # without it the file is the third form, the mean
        rest = {key: value for key, value in weights.items() if key != name}
        with pytest.raises(ValueError, match=f"lacks {re.escape(name)}.*download the whole file"):
            vlm.load_connector(put(rest))


def test_more_than_an_alignnet(put):
    both = alignnet() | {"cha_scale": torch.ones(1, 7, 1, 1)}
    with pytest.raises(ValueError, match="also holds cha_scale"):
        vlm.load_connector(put(both))
    stack = alignnet() | {"t5stack.block.0.weight": torch.ones(2, 2)}
    with pytest.raises(ValueError, match="also holds t5stack"):
        vlm.load_connector(put(stack))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv.weight", (1, 7, 4, 4)),
        ("conv.weight", (2, 7, 5, 5)),
        ("conv.weight", (7, 5, 5)),
        ("mlp.layernorm.bias", (31,)),
        ("mlp.projector.2.weight", (20, 21)),
        ("mlp.fc.1.weight", (12, 19)),
        ("mlp.fc.1.bias", (11,)),
    ],
)
def test_sizes_that_do_not_agree(put, name, shape):
    with pytest.raises(ValueError, match=f"{re.escape(name)}.*The file is damaged"):
        vlm.load_connector(put(alignnet() | {name: torch.ones(shape)}))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"linear.bias": torch.ones(4)}, "lacks linear.weight"),
        ({"weight": torch.ones(4, 3), "bias": torch.ones(3)}, "bias is .* beside a weight"),
        ({"0.weight": torch.ones(4, 3), "2.weight": torch.ones(4, 5)}, "gives 4 .* reads 5"),
        ({"weight": torch.ones(4, 3, 1)}, "a linear layer's weight is"),
        ({"weight": torch.ones(0, 3)}, "a linear layer's weight is"),
        ({"weight": torch.ones(4, 3, dtype=torch.int32)}, "weight is int32"),
        ({"weight": torch.full((4, 3), float("nan"))}, "weight holds NaN or Inf"),
        ({"bn.running_mean": torch.ones(4)}, "bn.running_mean belongs to no connector"),
        (
            {"q.weight": torch.ones(3, 4), "q.bias": torch.ones(3), "k.lora_A": torch.ones(2, 4)},
            "k.lora_A belongs to no connector",
        ),
    ],
)
def test_no_connector(put, weights, message):
    with pytest.raises(ValueError, match=message):
        vlm.load_connector(put(weights))


@pytest.mark.parametrize("form", ["cnn", "scale", "mean"])
def test_what_an_alignnet_takes_of_each_layer(put, form):
    weights = alignnet(form)
    connector = vlm.load_connector(put(weights))
    taken = connector.layer_weights(7)
    assert taken.layers == tuple(range(7)) and taken.values.dtype == torch.float32
    if form == "cnn":
        want = torch.stack([kernel.norm() for kernel in weights["conv.weight"][0]])
        assert matches(taken.values, want) and taken.meaning == "size of the kernel"
    else:
        # One layer at a time through the mix is what its factor says.
        ones = torch.eye(7)[:, :, None, None].expand(7, 7, 1, 32)
        mixed = connector.module.mix(lambda first, stop: ones[:, :, first:stop], 1)[:, 0, 0]
        assert matches(taken.values, mixed) and taken.meaning == "factor"
    assert (connector.layer_weights() is None) == (form == "mean")


def test_a_connector_of_one_layer_has_no_weights_by_layer(put):
    connector = vlm.load_connector(put({"linear.weight": torch.randn(6, 4)}))
    assert connector.layer_weights(9) is None
