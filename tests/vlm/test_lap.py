"""LAP Pool: equal to the paper's equations, in chunks, masked, with and without weights."""

import re
from functools import partial

import pytest
import torch
from lap_equations import (
    CLOSE,
    EVERY_THIRD,
    LAYERS,
    LAYOUTS,
    METADATA,
    WIDTH,
    direct,
    lap_weights,
    loaded_lap,
    noise,
    put_lap,
    run,
)
from test_memory_estimate import peak_of
from torch.utils._python_dispatch import TorchDispatchMode

import vlm
from vlm.connectors.lap import choose_lap, parse_layer_strengths
from vlm.connectors.lap_blocks import (
    LAP,
    PIECE_BYTES,
    ROWS,
    TXTFUSION,
    UNIFUSION,
    Sizes,
    pool_chunks,
    rows_at_once,
)


@pytest.fixture
def put(tmp_path):
    """`put(weights, metadata)`: a file of them."""
    return partial(put_lap, tmp_path)


@pytest.fixture
def loaded(tmp_path):
    """`loaded(layout)`: the LAP of a file with random weights."""
    return partial(loaded_lap, tmp_path)


@pytest.fixture
def states(tiny):
    """`states(words)`: hidden states of a prompt, 37 layers."""
    return lambda words="a red house by the sea": tiny().encode(words)


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
    monkeypatch.setattr("vlm.connectors.lap_blocks.ROWS", stack.shape[2] * LAYERS)
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
@pytest.mark.parametrize(("refiner", "limit"), [(False, 8), (True, 12)])
@pytest.mark.slow
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


def test_what_it_takes_of_each_layer(put):
    weights = lap_weights(UNIFUSION, layers=3)
    pooling = next(value for key, value in weights.items() if key.endswith("projector.weight"))
    named = vlm.load_connector(put(weights, METADATA | {"layers": "3,1,35"})).layer_weights()
    assert named.layers == (3, 1, 35) and torch.equal(named.values, pooling[0].float())
    assert named.meaning == "pooling weight"
    open_ = vlm.load_connector(put(lap_weights(TXTFUSION), None))
    assert open_.layer_weights().layers is None  # the file does not say which
    assert open_.layer_weights(37).layers == tuple(range(2, 36, 3))  # every third, 12 of them
    assert open_.layer_weights(20).layers is None  # a VLM with another number of them


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


@pytest.mark.slow
def test_memory_of_hidden_states(states, loaded):
    """Also where a filter left holes: only the rows of a chunk are copied."""
    h = states("a red house by the sea at dawn, two boats, a flock of birds " * 60)
    h.reach(-2)
    h = h.take([index for index in range(h.n) if index % 7])
    assert h.n > 1000
    lap, layer = loaded(UNIFUSION), h.n * h.width * 4
    for refiner, limit in ((False, 8), (True, 12)):
        measured = peak_of(lambda refiner=refiner: vlm.lap_pool(h, lap, refiner=refiner))
        assert measured <= limit * layer
    assert lap.run_bytes(h.n) >= measured / 2


class Count(TorchDispatchMode):
    """Counts operations; each starts a kernel on a graphics card."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("layers", "tokens"), [(12, 600), (37, 200)])
def test_few_operations_where_the_device_is_no_cpu(layout, layers, tokens):
    """Counted on torch's `meta` device, which stands for a graphics card."""
    with torch.device("meta"):
        lap = LAP(Sizes(layout, 64, layers, 4, 4, 256)).requires_grad_(False)
        states = torch.randn(1, layers, tokens, 64)
    with torch.no_grad(), Count() as count:
        lap(lambda start, stop: states[:, :, start:stop], tokens)
    assert count.number < 1000


def test_the_mean_takes_few_operations_there_too():
    states = torch.empty(1, 12, 2000, 64, device="meta")
    weights = torch.empty(12, device="meta")
    rows = rows_at_once(states.device, 4 * 3 * 64)
    with Count() as count:
        pool_chunks(
            lambda start, stop: states[:, :, start:stop], 2000, lambda x: x, weights,
            torch.float32, rows,
        )  # fmt: skip
    assert count.number < 50


def test_rows_at_once_fit_into_the_room_for_them():
    cpu, card = torch.device("cpu"), torch.device("cuda")
    assert rows_at_once(cpu, 1) == rows_at_once(cpu, PIECE_BYTES) == ROWS
    assert rows_at_once(card, PIECE_BYTES) == ROWS
    assert rows_at_once(card, PIECE_BYTES // 1000) == pytest.approx(1000, abs=1)
    sizes = Sizes(UNIFUSION, 2560, 12, 20, 20, 10240)
    with torch.device("meta"):
        lap = LAP(sizes)
    short, long = lap.run_bytes(2), lap.run_bytes(2000)
    held = 4 * 4 * 2000 * 2560
    assert PIECE_BYTES / 2 < long - held <= PIECE_BYTES and short < PIECE_BYTES / 10


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
    with pytest.raises(ValueError, match=message + "for tiny: load that model with `load`"):
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
        ({"strengths": "2:1e999"}, "no sum of layers holds it"),
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
    with pytest.raises(ValueError, match="Give the hidden states of `encode` to `lap_pool`"):
        connector(vlm.select_layers(states(), -2))


def test_strengths_are_read():
    assert parse_layer_strengths("", 37) == {}
    assert parse_layer_strengths("2:1, -2:0.5, 5:-1e-3", 37) == {2: 1, 35: 0.5, 5: -0.001}
