"""Layers of every kind that stay behind: experts, linear attention, Gemma's norms."""

from __future__ import annotations

import comfy.model_management as management
import pytest
import torch
from partial_loading import DTYPES, LAYERS, TEXT, left_behind, states

# Which of their layers have parameters that are not called weight.
ODD = {"qwen3_vl_moe": "experts", "qwen3_5": "linear_attn"}


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    """`odd_folder(family)`: a tiny model, made once."""
    made = {}

    def get(family):
        from pack.vlm.tiny.folder import write_tiny

        if family not in made:
            out = tmp_path_factory.mktemp("odd") / family
            made[family] = write_tiny(out, family, layers=LAYERS)
        return made[family]

    return get


@pytest.mark.parametrize("family", ODD)
@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_layers_left_behind_give_the_same_bits(
    odd_folder, budget, brought, monkeypatch, picture, family, dtype
):
    """What they run with was brought over: what stayed behind is spoilt."""
    from pack.nodes import casting
    from pack.nodes.devices import ComfyHost
    from pack.vlm import load

    host = ComfyHost("cpu")
    model = load(odd_folder(family), dtype=dtype, host=host, prefix_cache_mb=0)
    layers = [m for name, m in model.backbone.text.named_modules() if name.endswith(ODD[family])]
    assert layers
    want = states(model, picture)
    assert brought == [] and left_behind(model) == []
    host.patcher.detach()
    budget(host, 0)
    owners = [m for layer in layers for m in (layer, *layer.children()) if odd(m)]
    clean = {id(p): p.clone() for owner in owners for p in owner.parameters(recurse=False)}
    asked = set()

    def bring(weight, device):
        asked.add(id(weight))
        return clean[id(weight)]

    monkeypatch.setattr(casting, "bring", bring)
    for owner in owners:
        for weight in owner.parameters(recurse=False):
            weight.data = torch.full_like(weight, float("nan"))
    assert torch.equal(states(model, picture), want)
    assert asked == clean.keys()
    behind = left_behind(model)
    # ComfyUI itself counts and moves the experts; linear attention's few numbers it does not see.
    assert all(layer in behind for layer in layers) is (family == "qwen3_vl_moe")
    assert host.patcher.model.model_lowvram
    management.unload_all_models()


class Line:
    """Stands for a stream of a graphics card; everything happens at once."""

    ended = False

    def wait_stream(self, other):
        """There is nothing to wait for."""

    def synchronize(self):
        self.ended = True


@pytest.mark.parametrize("depth", [-1, 3])
def test_experts_come_one_layer_ahead(odd_folder, budget, monkeypatch, picture, depth):
    """Each layer's are copied once, while the layer before runs, and give the same bits."""
    from pack.nodes import ahead, devices
    from pack.vlm import load

    host, line, order = devices.ComfyHost("cpu"), Line(), []
    model = load(odd_folder("qwen3_vl_moe"), dtype="float32", host=host, prefix_cache_mb=0)
    want = model.encode(TEXT, [picture(70, 90)]).layer(depth)
    host.patcher.detach()
    budget(host, 0)
    monkeypatch.setattr(devices, "_copy_stream", lambda device: line)
    monkeypatch.setattr(ahead, "_behind", lambda layer, device: dict(layer._parameters))
    fill = ahead.Ahead._fill

    def noted(self, place, turn, *more):
        order.append(("copied", turn))
        fill(self, place, turn, *more)

    monkeypatch.setattr(ahead.Ahead, "_fill", noted)
    experts = [layer.mlp.experts for layer in model.backbone.text.layers]
    for turn, layer in enumerate(experts):
        layer.register_forward_hook(lambda *_, turn=turn: order.append(("ran", turn)))
    originals = {id(weight) for layer in experts for weight in layer.parameters()}
    read = []
    monkeypatch.setattr(
        "pack.nodes.casting.bring", lambda weight, device: read.append(id(weight)) or weight
    )
    assert torch.equal(model.encode(TEXT, [picture(70, 90)]).layer(depth), want)
    ran = LAYERS if depth == -1 else depth
    expected = [("copied", 0)]
    for turn in range(ran):
        expected += [("copied", turn + 1)] * (turn + 1 < LAYERS) + [("ran", turn)]
    assert order == expected
    assert len(read) == 2 * ran and not originals & set(read)
    assert line.ended and host._ahead._places == []
    assert all(id(weight) in originals for layer in experts for weight in layer.parameters())
    management.unload_all_models()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemmas_layers_left_behind_give_the_same_bits(odd_folder, budget, brought, picture, dtype):
    """Its norms add 1 to their weights, and its embedding scales the rows it gives."""
    from pack.nodes.devices import ComfyHost
    from pack.vlm import load

    host = ComfyHost("cpu")
    model = load(odd_folder("gemma3"), dtype=dtype, host=host, prefix_cache_mb=0)
    want = states(model, picture)
    assert brought == [] and left_behind(model) == []
    host.patcher.detach()
    budget(host, 0)
    assert torch.equal(states(model, picture), want)
    assert len(left_behind(model)) == len(brought) == 13 * LAYERS + 1
    management.unload_all_models()


def odd(layer: torch.nn.Module) -> bool:
    """Whether a layer's parameters are read, or named, in another way than a linear layer's."""
    names = layer._parameters.keys()
    return bool(names - {"weight", "bias"}) or isinstance(layer, torch.nn.Conv1d)


@pytest.mark.parametrize("family", ["internvl"])
def test_other_families_left_behind_give_the_same_bits(
    odd_folder, budget, brought, picture, family
):
    from pack.nodes.devices import ComfyHost
    from pack.vlm import load

    host = ComfyHost("cpu")
    model = load(odd_folder(family), dtype="bfloat16", host=host, prefix_cache_mb=0)
    want = states(model, picture)
    assert brought == [] and left_behind(model) == []
    host.patcher.detach()
    budget(host, 0)
    assert torch.equal(states(model, picture), want)
    castable = [m for m in model.backbone.modules() if hasattr(m, "comfy_cast_weights")]
    assert len(left_behind(model)) == len(castable) == 9 * LAYERS + 1
    management.unload_all_models()
