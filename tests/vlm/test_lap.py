"""LAP Pool: equal to the paper's equations, in chunks, masked, with and without weights."""

import math
import re

import pytest
import torch
from safetensors.torch import save_file
from test_memory_estimate import peak_of

import vlm
from vlm.lap import choose_lap, parse_strengths
from vlm.lap_blocks import LAP, ROWS, TXTFUSION, UNIFUSION, Origin, Sizes
from vlm.lap_file import lap_metadata

WIDTH, LAYERS, HEADS = 64, 12, 4
LAYOUTS = (UNIFUSION, TXTFUSION)
CLOSE = 1e-5
EVERY_THIRD = tuple(range(2, 36, 3))


def lap_weights(layout, width=WIDTH, layers=LAYERS, heads=HEADS, key_heads=None, seed=0):
    """Random weights under the names of a file, large enough for every part to matter."""
    head = width // heads
    keys = head * (key_heads or heads)
    shapes = {"projector.weight": (1, layers)}
    for block in (f"{stack}_blocks.{n}." for stack in ("layerwise", "refiner") for n in (0, 1)):
        of = {"wq": width, "wk": keys, "wv": keys, "wo": width}
        if layout == TXTFUSION:
            norms = {"prenorm": width, "postnorm": width}
            norms |= {"attn.qknorm.qnorm": head, "attn.qknorm.knorm": head}
            shapes |= {f"{block}{norm}.scale": (size,) for norm, size in norms.items()}
            of["gate"] = width
            shapes |= {f"{block}mlp.{name}.weight": (128, width) for name in ("gate", "up")}
            shapes[f"{block}mlp.down.weight"] = (width, 128)
        else:
            shapes |= {f"{block}{norm}.weight": (width,) for norm in ("prenorm", "postnorm")}
            shapes[f"{block}mlp.w1.weight"] = (4 * width, width)
            shapes[f"{block}mlp.w2.weight"] = (width, 4 * width)
        shapes |= {f"{block}attn.{name}.weight": (out, width) for name, out in of.items()}
    g = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=g) / (2 if len(shape) == 1 else shape[1] ** 0.5)
        for name, shape in shapes.items()
    }


METADATA = {
    "format": "vlm_lap",
    "version": "1",
    "heads": str(HEADS),
    "layers": ",".join(map(str, EVERY_THIRD)),
    "vlm": "tiny",
    "target": "none",
}


@pytest.fixture
def put(tmp_path):
    """`put(weights, metadata)`: a file of them."""

    def write(weights, metadata=METADATA, name="lap.safetensors"):
        save_file({key: value.contiguous() for key, value in weights.items()}, tmp_path / name,
                  metadata)  # fmt: skip
        return tmp_path / name

    return write


@pytest.fixture
def loaded(put):
    """`loaded(layout)`: the LAP of a file with random weights."""

    def load(layout, **sizes):
        metadata = METADATA if layout == UNIFUSION else None
        return vlm.load_connector(put(lap_weights(layout, **sizes), metadata)).module

    return load


@pytest.fixture
def states(tiny):
    """`states(words)`: hidden states of a prompt, 37 layers."""
    return lambda words="a red house by the sea": tiny().encode(words)


# --- the paper's equations, written down directly -------------------------------------------------


def attention(q, k, v, heads, real=None):
    """softmax(Q K^T / sqrt(d)) V, head by head, on [S, D]; `real` [S]: keys that may be read."""
    width, outs = q.shape[1] // heads, []
    group = heads // (k.shape[1] // width)
    for head in range(heads):
        own, of = (slice(n * width, (n + 1) * width) for n in (head, head // group))
        scores = q[:, own] @ k[:, of].T / math.sqrt(width)
        if real is not None:
            scores[:, ~real] = -math.inf
        outs.append(scores.softmax(-1) @ v[:, of])
    return torch.cat(outs, dim=1)


def rms(x, weight, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def silu(x):
    return x * torch.sigmoid(x)


def direct_block(w, x, heads, real=None):
    """One block on a sequence [S, D], in float64; its layout is told by its weights."""
    if "prenorm.weight" in w:
        h = rms(x, w["prenorm.weight"], 1e-6)
        q, k, v = (h @ w[f"attn.{name}.weight"].T for name in ("wq", "wk", "wv"))
        out = attention(q, k, v, heads, real) @ w["attn.wo.weight"].T
        x = x + rms(out, w["postnorm.weight"], 1e-6)
        return x + silu(x @ w["mlp.w1.weight"].T) @ w["mlp.w2.weight"].T
    h = rms(x, 1 + w["prenorm.scale"], 1e-5)
    q, k, v, gate = (h @ w[f"attn.{name}.weight"].T for name in ("wq", "wk", "wv", "gate"))
    head = x.shape[1] // heads
    q = rms(q.view(len(q), -1, head), 1 + w["attn.qknorm.qnorm.scale"], 1e-5).flatten(1)
    k = rms(k.view(len(k), -1, head), 1 + w["attn.qknorm.knorm.scale"], 1e-5).flatten(1)
    x = x + (attention(q, k, v, heads, real) * torch.sigmoid(gate)) @ w["attn.wo.weight"].T
    h = rms(x, 1 + w["postnorm.scale"], 1e-5)
    inside = silu(h @ w["mlp.gate.weight"].T) * (h @ w["mlp.up.weight"].T)
    return x + inside @ w["mlp.down.weight"].T


def direct(weights, stack, heads=HEADS, strengths=None, refiner=True, real=None):
    """LAP on [B, L, N, D]: blocks over layers, FC that pools them, refiner over tokens."""
    weights = {name: value.double() for name, value in weights.items()}

    def block(of, number):
        start = f"{of}_blocks.{number}."
        return {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}

    pool = weights["projector.weight"][0]
    if strengths is not None:
        pool = pool * torch.tensor(strengths, dtype=torch.float64)
    rows = []
    for row, sample in enumerate(stack.double()):
        pooled = []
        for x in sample.transpose(0, 1):
            for number in (0, 1):
                x = direct_block(block("layerwise", number), x, heads)
            pooled.append(pool @ x)
        x = torch.stack(pooled)
        for number in (0, 1) if refiner else ():
            readable = None if real is None else real[row]
            x = direct_block(block("refiner", number), x, heads, readable)
        rows.append(x)
    return torch.stack(rows)


def run(lap, stack, **how):
    """The module on layers in one tensor [B, L, N, D]."""
    with torch.no_grad():
        return lap(lambda first, stop: stack[:, :, first:stop], stack.shape[2], **how)


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("refiner", [True, False], ids=["refiner", "no refiner"])
def test_equals_the_papers_equations(loaded, err, layout, refiner):
    stack = noise(2, LAYERS, 23, WIDTH)
    expected = direct(lap_weights(layout), stack, refiner=refiner)
    assert err(run(loaded(layout), stack, refiner=refiner), expected) < CLOSE


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fewer_heads_for_keys(loaded, err, layout):
    stack = noise(1, LAYERS, 9, WIDTH)
    expected = direct(lap_weights(layout, key_heads=2), stack)
    assert err(run(loaded(layout, key_heads=2), stack), expected) < CLOSE


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strengths_multiply_the_pooling_weights(loaded, err, layout):
    stack = noise(1, LAYERS, 9, WIDTH)
    strengths = [0.0, 1.0, 0.5, 0.0, 2.0, 1.0, 1.0, 0.0, 0.25, 1.0, 1.0, -1.0]
    expected = direct(lap_weights(layout), stack, strengths=strengths)
    got = run(loaded(layout), stack, strengths=torch.tensor(strengths))
    assert err(got, expected) < CLOSE
    assert err(run(loaded(layout), stack), expected) > 0.01


@pytest.mark.parametrize("layout", LAYOUTS)
def test_chunks_equal_the_whole(loaded, err, layout, monkeypatch):
    """More tokens than one chunk over layers, and more than one over tokens."""
    stack = noise(1, LAYERS, ROWS + 7, WIDTH)
    lap = loaded(layout)
    chunked = run(lap, stack)
    monkeypatch.setattr("vlm.lap_blocks.ROWS", stack.shape[2] * LAYERS)
    assert err(chunked, run(lap, stack)) < CLOSE


@pytest.mark.parametrize("layout", LAYOUTS)
def test_refiner_does_not_read_padding(loaded, err, layout):
    stack, real = noise(2, LAYERS, 20, WIDTH), torch.ones(2, 20, dtype=torch.bool)
    real[0, 13:] = real[1, :4] = False
    lap = loaded(layout)
    masked = run(lap, stack, real=real)
    assert err(masked, direct(lap_weights(layout), stack, real=real)) < CLOSE
    short = run(lap, stack[:1, :, :13])
    assert err(masked[:1, :13], short) < CLOSE  # as if the padding were not there
    assert err(run(lap, stack)[:1, :13], short) > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("refiner", "limit"), [(False, 2.5), (True, 8)])
def test_memory(loaded, dtype, refiner, limit):
    """In the bytes of one layer's states, as benchmarks/lap.py has it at full size."""
    lap = loaded(UNIFUSION)
    layers = [noise(1, 1024, WIDTH, seed=k).to(dtype) for k in range(LAYERS)]

    def stretch(first, stop):
        return torch.stack([layer[:, first:stop] for layer in layers], dim=1)

    def pool():
        with torch.no_grad():
            return lap(stretch, 1024, refiner=refiner, dtype=dtype)

    pool()
    assert peak_of(pool) <= limit * layers[0].nbytes


# --- on hidden states -----------------------------------------------------------------------------


def test_every_third_layer_by_default(states, loaded, err):
    h = states()
    pooled = vlm.lap_pool(h, loaded(TXTFUSION))
    assert err(pooled.states, direct(lap_weights(TXTFUSION), h.layers(EVERY_THIRD))) < CLOSE
    assert pooled.token_map == h.token_map
    assert h.depth == 35


def test_layers_that_the_weights_name(put, states, err):
    weights = lap_weights(UNIFUSION, layers=3)
    connector = vlm.load_connector(put(weights, METADATA | {"layers": "3,1,35"}))
    h = states()
    expected = direct(weights, h.layers([3, 1, 35]))
    assert err(vlm.lap_pool(h, connector.module).states, expected) < CLOSE
    chosen = vlm.lap_pool(h, connector.module, layers="0, 9, -1", strengths="9:0, -1:0.5")
    expected = direct(weights, h.layers([0, 9, 36]), strengths=[1, 0, 0.5])
    assert err(chosen.states, expected) < CLOSE


def test_connector_call(put, states, err):
    connector = vlm.load_connector(put(lap_weights(UNIFUSION)))
    assert connector.title == "LAP (unifusion, 12 layers)"
    assert (connector.in_width, connector.width, connector.pooled) == (WIDTH, WIDTH, 0)
    assert connector.made_for == "tiny" and not connector.warning
    h = states()
    out = connector(h)
    assert out.pooled is None and out.context.dtype == torch.float32
    assert err(out.context, vlm.lap_pool(h, connector.module).states) < CLOSE


def test_pad_tokens_are_masked(tiny, loaded, err):
    """FLUX.2 klein's prompts are padded to 512 tokens."""
    h = tiny().encode("a red house", target="flux2-klein-4b")
    roles = h.token_map["role"]
    real = torch.tensor([[role != "pad" for role in roles]])
    assert not real.all()
    got = vlm.lap_pool(h, loaded(TXTFUSION)).states
    expected = run(loaded(TXTFUSION), h.layers(EVERY_THIRD), real=real)
    assert err(got, expected) < CLOSE
    pads = [index for index, role in enumerate(roles) if role == "pad"]
    with pytest.raises(ValueError, match="Only pad tokens are left"):
        vlm.lap_pool(h.take(pads), loaded(TXTFUSION))


def test_what_the_target_never_sees_is_left_out(tiny, loaded, err):
    h = tiny().encode("a red house", target="krea2")
    assert h.dropped
    pooled = vlm.lap_pool(h, loaded(TXTFUSION))
    kept = h.layers(EVERY_THIRD)[:, :, h.dropped :]
    assert err(pooled.states, direct(lap_weights(TXTFUSION), kept)) < CLOSE
    assert pooled.n == h.n - h.dropped == pooled.token_map["n"]


def test_without_weights_it_is_the_mean(states, err):
    h = states()
    stack = h.layers(EVERY_THIRD)
    assert err(vlm.lap_pool(h).states, stack.mean(dim=1)) < CLOSE
    weighed = vlm.lap_pool(h, layers="2,5,-1", strengths={2: 3, -1: 0}).states
    assert err(weighed, (3 * stack[:, 0] + stack[:, 1]) / 4) < CLOSE


def test_of_some_tokens_with_weights_on_them(states, err):
    h = states("a red house by the sea at dawn, two boats, a flock of birds " * 8)
    some = list(range(5, h.n, 3))[::-1]
    factors = torch.linspace(0, 1, len(some))
    fewer = h.take(some).weigh(factors)
    expected = h.layers(EVERY_THIRD)[:, :, some].mean(dim=1) * factors[:, None]
    assert err(vlm.lap_pool(fewer).states, expected) < CLOSE


def test_memory_of_hidden_states(states, loaded):
    """Also where a filter left holes: only the rows of a chunk are copied."""
    h = states("a red house by the sea at dawn, two boats, a flock of birds " * 60)
    h.reach(-2)
    h = h.take([index for index in range(h.n) if index % 7])
    assert h.n > 1000
    lap, layer = loaded(UNIFUSION), h.n * h.width * 4
    for refiner, limit in ((False, 2.5), (True, 8)):
        measured = peak_of(lambda refiner=refiner: vlm.lap_pool(h, lap, refiner=refiner))
        assert measured <= limit * layer
    assert lap.run_bytes(h.n) >= measured / 2


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_saved_and_loaded(tmp_path, loaded, layout, err):
    sizes = loaded(layout).sizes
    lap = LAP(sizes, Origin(vlm="Qwen3-VL-4B", layers=EVERY_THIRD, target="z-image"))
    lap.load_state_dict(lap_weights(layout))
    path = tmp_path / "mine.safetensors"
    vlm.save_lap(lap, path)
    again = vlm.load_connector(path).module
    assert again.sizes == sizes
    assert again.origin == Origin(path.name, "Qwen3-VL-4B", EVERY_THIRD, "z-image")
    for name, weight in lap_weights(layout).items():
        assert torch.equal(again.state_dict()[name], weight)
    stack = noise(1, LAYERS, 5, WIDTH)
    assert err(run(again, stack), run(lap, stack)) < CLOSE
    assert lap_metadata(path)["version"] == "1"


def test_saving_needs_the_layers(tmp_path):
    lap = LAP(Sizes(UNIFUSION, 8, 3, 2, 2, 8), Origin(layers=(1, 2)))
    with pytest.raises(ValueError, match="pools 3 layers, its origin names 2"):
        vlm.save_lap(lap, tmp_path / "a.safetensors")


def test_inside_a_checkpoint(tmp_path, put, err):
    """Nothing else of a Krea 2 checkpoint is read, and convert writes that part alone."""
    from vlm.cli import main

    weights = lap_weights(TXTFUSION)
    start = "model.diffusion_model."
    whole = {f"{start}txtfusion.{name}": value for name, value in weights.items()}
    whole |= {f"{start}first.weight": torch.full((4, 4), math.nan)}
    path = put(whole, None, "krea2.safetensors")
    connector = vlm.load_connector(path)
    assert connector.title == "LAP (txtfusion, 12 layers)"
    stack = noise(1, LAYERS, 5, WIDTH)
    assert err(run(connector.module, stack), direct(weights, stack)) < CLOSE
    part = tmp_path / "part.safetensors"
    main(["convert", str(path), str(part)])
    assert err(run(vlm.load_connector(part).module, stack), run(connector.module, stack)) < CLOSE
    assert part.stat().st_size < path.stat().st_size


def test_convert_keeps_the_metadata(tmp_path, put):
    from vlm.cli import main

    path, again = put(lap_weights(UNIFUSION)), tmp_path / "again.safetensors"
    main(["convert", str(path), str(again)])
    assert lap_metadata(again) == METADATA


def test_krea2s_own_are_known_by_their_sizes(put, states):
    """Width, layers and heads are the released ones; the feed-forward is small."""
    weights = lap_weights(TXTFUSION, width=2560, heads=20)
    lap = vlm.load_connector(put(weights, None)).module
    assert (lap.origin.vlm, lap.origin.target) == ("Qwen3-VL-4B", "Krea 2")
    with pytest.raises(ValueError, match="It was made for Qwen3-VL-4B: load that model"):
        vlm.lap_pool(states(), lap)


# --- what is refused ------------------------------------------------------------------------------


def test_another_layer_count(tiny, put, states):
    lap = vlm.load_connector(put(lap_weights(TXTFUSION), None)).module
    with pytest.raises(ValueError, match=r"pools 12 layers, these are 3: 2, 5, 8\. Load the VLM"):
        vlm.lap_pool(states(), lap, layers="2,5,8")
    shallow = tiny(layers=12).encode("a house")
    with pytest.raises(ValueError, match="pools 12 layers, these are 4: 2, 5, 8, 11"):
        vlm.lap_pool(shallow, lap)
    named = vlm.load_connector(put(lap_weights(UNIFUSION))).module
    message = r"lap\.safetensors .* reads layer 35, this VLM has the layers 0 to 12\. It was made "
    with pytest.raises(ValueError, match=message + "for tiny: load that model on VLM Loader"):
        vlm.lap_pool(shallow, named)


def test_another_width(put, states):
    lap = vlm.load_connector(put(lap_weights(UNIFUSION, width=32))).module
    with pytest.raises(ValueError, match="reads 32 dimensions, these hidden states have 64"):
        vlm.lap_pool(states(), lap)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"layers": "40"}, "Layer 40 does not exist"),
        ({"layers": "2:0.5, 5:1"}, "write weights into strengths"),
        ({"layers": ""}, "chooses no layer"),
        ({"strengths": "4:1"}, "strengths names layer 4, which is not pooled"),
        ({"strengths": "2:1, -35:0"}, "names a layer twice"),
        ({"strengths": "2"}, "has no weight"),
        ({"strengths": "two:1"}, "Expected layer:weight"),
        ({"strengths": "99:1"}, "Layer 99 does not exist"),
        ({"strengths": "2:1e999"}, "beyond any number"),
        ({"layers": "2,5", "strengths": "2:0, 5:0"}, "add up to 0, a mean needs more"),
        ({"layers": "2,5", "strengths": "2:-2"}, "add up to -1, a mean needs more"),
    ],
)
def test_wrong_layers_and_strengths(states, how, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        vlm.lap_pool(states(), **how)


def test_nothing_left(states, loaded, tiny):
    strengths = dict.fromkeys(EVERY_THIRD, 0)
    with pytest.raises(ValueError, match="All strengths are 0"):
        vlm.lap_pool(states(), loaded(TXTFUSION), strengths=strengths)
    flat = tiny(layers=2).encode("a house")
    with pytest.raises(ValueError, match="only 3 layers, embeddings included, too few"):
        choose_lap(flat)
    assert choose_lap(flat, layers="0,1").indices == (0, 1)


def test_a_connector_needs_hidden_states(put, states):
    connector = vlm.load_connector(put(lap_weights(TXTFUSION), None))
    with pytest.raises(ValueError, match="Connect the hidden states of VLM Encode to LAP Pool"):
        connector(vlm.select_layers(states(), -2))


def test_strengths_are_read():
    assert parse_strengths("", 37) == {}
    assert parse_strengths("2:1, -2:0.5, 5:-1e-3", 37) == {2: 1, 35: 0.5, 5: -0.001}


def without(weights, *keys):
    return {name: value for name, value in weights.items() if name not in keys}


WRONG = {
    "a missing pool": (
        lambda w: (without(w, "projector.weight"), METADATA),
        "projector.weight is missing",
    ),
    "a missing weight": (
        lambda w: (without(w, "refiner_blocks.1.mlp.w2.weight"), METADATA),
        "lack refiner_blocks.1.mlp.w2.weight",
    ),
    "another weight": (
        lambda w: (w | {"layerwise_blocks.2.prenorm.weight": torch.ones(64)}, METADATA),
        "also holds layerwise_blocks.2.prenorm.weight",
    ),
    "another size": (
        lambda w: (w | {"refiner_blocks.0.prenorm.weight": torch.ones(32)}, METADATA),
        "refiner_blocks.0.prenorm.weight is [32], expected [64]",
    ),
    "no metadata": (lambda w: (w, None), "do not say how many heads"),
    "another version": (lambda w: (w, METADATA | {"version": "2"}), "of version 2, this pack"),
    "heads that do not divide": (
        lambda w: (w, METADATA | {"heads": "5"}),
        "5 heads do not divide 64 dimensions",
    ),
    "no heads": (lambda w: (w, METADATA | {"heads": "0"}), "0 heads do not divide"),
    "fewer layers": (lambda w: (w, METADATA | {"layers": "2,5"}), "pools 12 layers, its metadata"),
    "words for layers": (lambda w: (w, METADATA | {"layers": "all"}), "its metadata name 'all'"),
    "quantised": (
        lambda w: (w | {"refiner_blocks.0.attn.wq.weight_scale": torch.ones(1)}, METADATA),
        "holds quantised weights",
    ),
    "NaN": (
        lambda w: (w | {"projector.weight": torch.full((1, LAYERS), math.nan)}, METADATA),
        "projector.weight holds NaN",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_files_that_are_not_whole(put, what):
    change, message = WRONG[what]
    with pytest.raises(ValueError, match=re.escape(message)):
        vlm.load_connector(put(*change(lap_weights(UNIFUSION))))


def test_heads_that_do_not_divide_those_of_keys(put):
    weights = lap_weights(TXTFUSION, key_heads=3)
    with pytest.raises(ValueError, match="has 4 heads and 3 for keys"):
        vlm.load_connector(put(weights, None))
