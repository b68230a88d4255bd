"""Hugging Face models that ComfyUI loads in pieces: the bits of the fully loaded run."""

from __future__ import annotations

import comfy.model_management as management
import comfy.ops
import pytest
import torch

TEXT = "a red house"
LAYERS = 6
DTYPES = ["float32", "bfloat16", "float16"]


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


@pytest.fixture
def budget(monkeypatch):
    """`budget(host, size)`: ComfyUI takes this CPU for a GPU with room for `size` bytes of text.

    Its own code decides which layers stay behind.
    """

    def limit(host, size: float) -> None:
        def free(device=None, torch_free_too=False):
            left = size - host.patcher.loaded_size()
            return management.minimum_inference_memory() + max(left, 0)

        monkeypatch.setattr(management, "lowvram_available", True)
        monkeypatch.setattr(management, "vram_state", management.VRAMState.NORMAL_VRAM)
        monkeypatch.setattr(management, "is_device_cpu", lambda device: False)
        monkeypatch.setattr(management, "get_free_memory", free)

    return limit


@pytest.fixture
def brought(monkeypatch):
    """The layers whose weights came over for a call; a copy is spoilt once the call is over.

    On one device ComfyUI hands out the weights themselves. A GPU gets copies, in memory that the
    next layer's weights overwrite.
    """
    came = []
    cast, uncast = comfy.ops.cast_bias_weight, comfy.ops.uncast_bias_weight

    def copied(layer, *args, **kwargs):
        weight, bias, stream = cast(layer, *args, **kwargs)
        came.append(layer)
        return weight.clone(), None if bias is None else bias.clone(), stream

    def spoilt(layer, weight, bias, stream):
        for tensor in (weight, bias):
            if tensor is not None:
                tensor.fill_(float("nan"))
        uncast(layer, weight, bias, stream)

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", copied)
    monkeypatch.setattr(comfy.ops, "uncast_bias_weight", spoilt)
    return came


def states(model, picture) -> torch.Tensor:
    """Every layer of a prompt with a picture."""
    h = model.encode(TEXT, images=[picture(70, 90)])
    return h.layers(range(model.num_layers))


def left_behind(model) -> list[torch.nn.Module]:
    """The layers that ComfyUI brings for each call."""
    return [m for m in model.backbone.modules() if getattr(m, "comfy_cast_weights", False)]


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
