"""Hugging Face models that ComfyUI loads in pieces: the bits of the fully loaded run."""

from __future__ import annotations

import comfy.model_management as management
import pytest
import torch
from partial_loading import DTYPES, LAYERS, left_behind, states


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from pack.vlm.tiny.folder import write_tiny

    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny", layers=LAYERS)


@pytest.fixture
def loaded(folder):
    """`loaded(dtype)`: VLM Loader's model, which ComfyUI forgets after the test."""
    from pack.nodes.devices import ComfyHost
    from pack.vlm import load

    def make(dtype: str = "float32"):
        host = ComfyHost("cpu")
        return load(folder, dtype=dtype, host=host, prefix_cache_mb=0), host

    yield make
    management.unload_all_models()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_layers_left_behind_give_the_same_bits(loaded, budget, brought, picture, dtype, share):
    from pack.vlm.running.backbone import TEXT as TEXT_PART

    whole, _ = loaded(dtype)
    want = states(whole, picture)
    assert brought == [] and left_behind(whole) == []
    model, host = loaded(dtype)
    weights = {name: (p, p.clone()) for name, p in model.backbone.named_parameters()}
    castable = [m for m in model.backbone.modules() if hasattr(m, "comfy_cast_weights")]
    kept = share * host._patchers[TEXT_PART].model_size()
    budget(host, kept)
    assert torch.equal(states(model, picture), want)
    behind = left_behind(model)
    if share:
        assert 0 < len(behind) < len(castable)
        assert 0 < host.patcher.loaded_size() <= kept
    else:
        assert len(behind) == len(castable) == 11 * LAYERS + 1
    assert {id(layer) for layer in brought} == {id(layer) for layer in behind}
    assert len(brought) == len(behind)  # once each: one run
    after = dict(model.backbone.named_parameters())
    assert after.keys() == weights.keys()
    assert all(after[name] is old and torch.equal(old, was) for name, (old, was) in weights.items())


def test_the_vision_tower_comes_whole(loaded, budget, picture):
    from pack.vlm.running.backbone import VISION

    model, host = loaded()
    budget(host, 0)
    states(model, picture)
    tower = host._patchers[VISION]
    assert tower.loaded_size() == tower.model_size() and not tower.model.model_lowvram
    assert host.patcher.model.model_lowvram
    assert not any(hasattr(m, "comfy_cast_weights") for m in tower.model.modules())


def test_the_embedding_is_looked_up_where_it_lies(loaded, budget, picture):
    model, host = loaded()
    budget(host, 0)
    states(model, picture)
    table = model.backbone.text.embed_tokens
    assert type(table) is torch.nn.Embedding and not hasattr(table, "comfy_cast_weights")


def test_more_or_less_room_changes_nothing(loaded, budget, brought, picture):
    model, host = loaded("bfloat16")
    want = states(model, picture)
    counts = []
    for part in (0.6, 0.0, 0.8, 1.1):
        host.patcher.detach()
        budget(host, part * host.patcher.model_size())
        brought.clear()
        assert torch.equal(states(model, picture), want)
        counts.append(len(brought))
    assert counts[1] == 11 * LAYERS + 1 and counts[3] == 0
    assert counts[1] > counts[0] > counts[2] > 0


def test_layers_let_go_one_by_one_after_a_full_load(loaded, brought, monkeypatch, picture):
    model, host = loaded("bfloat16")
    want = states(model, picture)
    freed = host.patcher.partially_unload(torch.device("cpu"), host.patcher.model_size() // 3)
    assert freed > 0 and left_behind(model)
    monkeypatch.setattr(management, "load_models_gpu", lambda *args, **kwargs: None)
    assert torch.equal(states(model, picture), want)
    assert {id(layer) for layer in brought} == {id(layer) for layer in left_behind(model)}


def test_an_error_inside_a_layer_puts_its_weights_back(loaded, budget, monkeypatch, picture):
    model, host = loaded()
    want = states(model, picture)
    host.patcher.detach()
    budget(host, 0)
    layer = model.backbone.text.layers[2].mlp.down_proj
    weight = layer.weight
    real = torch.nn.functional.linear

    def fails(hidden, given, bias=None):
        if given.shape == weight.shape and hidden.shape[-1] == weight.shape[1]:
            raise RuntimeError("inside")
        return real(hidden, given, bias)

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.functional, "linear", fails)
        with pytest.raises(RuntimeError, match="inside"):
            states(model, picture)
    assert layer.weight is weight
    assert torch.equal(states(model, picture), want)


@pytest.mark.parametrize("how", ["detach", "unload all", "free memory"])
def test_after_unloading_the_next_run_works(loaded, budget, picture, how):
    model, host = loaded()
    want = states(model, picture)
    parts = list(host._patchers.values())
    for limited in (False, True):
        if limited:
            host.patcher.detach()
            budget(host, 0.5 * host.patcher.model_size())
            assert torch.equal(states(model, picture), want)
        assert all(part in [m.model for m in management.current_loaded_models] for part in parts)
        if how == "detach":
            for part in parts:
                part.detach()
        elif how == "unload all":
            management.unload_all_models()
        else:
            management.free_memory(1e30, torch.device("cpu"))
        assert [part.loaded_size() for part in parts] == [0, 0]
        assert left_behind(model) == []
        assert torch.equal(states(model, picture), want)


def test_comfyui_lists_the_two_parts_by_name(loaded, picture, caplog):
    caplog.set_level("INFO")
    model, _ = loaded()
    states(model, picture)
    requested = [m.split()[-1] for m in caplog.messages if m.startswith("Requested to load")]
    assert requested == ["VisionTower", "LanguageModel"]
    listed = {type(m.model.model).__name__ for m in management.current_loaded_models}
    assert {"VisionTower", "LanguageModel"} <= listed
    names = {type(layer).__name__ for layer in model.backbone.text.layers[0].modules()}
    assert "Linear" in names and not any("Casting" in name for name in names)


def test_sizes_add_up_to_the_weights(loaded):
    model, host = loaded()
    sizes = [patcher.model_size() for patcher in host._patchers.values()]
    whole = sum(p.nbytes for p in model.backbone.parameters())
    buffers = sum(b.nbytes for b in model.backbone.buffers())
    assert whole <= sum(sizes) <= whole + buffers


def test_fp8_layers_left_behind_give_the_same_bits(folder, budget, brought, picture):
    from pack.nodes.devices import ComfyHost
    from pack.vlm import load
    from pack.vlm.weights.fp8 import ScaledLinear

    def scaled(host=None):
        model = load(folder, dtype="bfloat16", prefix_cache_mb=0)
        for layer in model.backbone.text.layers.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.__class__, layer.scale = ScaledLinear, layer.weight.abs().max().item() / 448
                stored = (layer.weight / layer.scale).to(torch.float8_e4m3fn)
                layer.weight = torch.nn.Parameter(stored, requires_grad=False)
        if host is not None:
            model.engine.host = host
            host.attach(model.backbone)
        return model

    want = states(scaled(), picture)
    host = ComfyHost("cpu")
    model = scaled(host)
    assert torch.equal(states(model, picture), want) and brought == []
    host.patcher.detach()
    budget(host, 0)
    assert torch.equal(states(model, picture), want)
    weights = [layer.weight for layer in brought if isinstance(layer, ScaledLinear)]
    assert len(weights) == 7 * LAYERS
    assert {weight.dtype for weight in weights} == {torch.float8_e4m3fn}
    management.unload_all_models()


@pytest.fixture
def no_vram(budget, monkeypatch):
    """`no_vram(host)`: ComfyUI as with --novram, which leaves everything behind."""

    def start(host) -> None:
        budget(host, 2**40)
        monkeypatch.setattr(management, "vram_state", management.VRAMState.NO_VRAM)

    return start


def test_without_vram_the_vision_tower_comes_whole(loaded, no_vram, brought, picture):
    """Its layers have no cast: left behind, they would meet pictures on another device."""
    from pack.vlm.running.backbone import VISION

    want = states(loaded()[0], picture)
    model, host = loaded()
    no_vram(host)
    host.bring(VISION, 0)
    tower = host._patchers[VISION]
    assert tower.loaded_size() == tower.model_size() > 0
    assert torch.equal(states(model, picture), want)
    assert brought and host.patcher.loaded_size() < host.patcher.model_size()


def test_without_vram_what_has_no_cast_comes_whole(loaded, no_vram):
    """Connectors, and a language model that cannot come in pieces."""
    from pack.nodes.devices import ManagedModule
    from pack.vlm.running.backbone import TEXT as TEXT_PART

    _, host = loaded()
    no_vram(host)
    placed = ManagedModule(torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)))
    placed.bring(0)
    assert placed.patcher.loaded_size() == placed.patcher.model_size() > 0
    host._in_pieces = False
    host.bring(TEXT_PART, 0)
    assert host.patcher.loaded_size() == host.patcher.model_size()
