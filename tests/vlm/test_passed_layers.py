"""Layers on their way to where they stay: nothing is copied in vain, or while layers run."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import vlm
from vlm.running import passed_layers
from vlm.running.backbone import TEXT as TEXT_PART
from vlm.running.host import Host
from vlm.running.rewrite import Rewriting
from vlm.running.run import Run

pytestmark = pytest.mark.slow

TEXT = "a red house by the river, a boat and a flock of birds"
ELSEWHERE = torch.device("meta")  # stands for another device than the one that runs


@pytest.fixture
def copies(monkeypatch):
    """Layers copied."""
    made, copy = [], passed_layers.own_copy

    def counted(part):
        made.append(part.shape)
        return copy(part)

    monkeypatch.setattr(passed_layers, "own_copy", counted)
    return made


@pytest.fixture
def model(tiny_folder):
    return vlm.load(tiny_folder(), dtype="bfloat16", prefix_cache_mb=0)


def test_what_is_dropped_at_once_is_not_copied(model, picture, copies):
    h = model.encode(TEXT, [picture(256, 256)], target="z-image", keep_mb=0)
    h.reach_target()
    assert len(copies) == len(h.held) == 1
    want = h.layer(h.held[0])
    copies.clear()
    whole = model.encode(TEXT, [picture(256, 256)], target="z-image")
    whole.reach_target()
    assert len(copies) == len(whole.held) == h.held[0] + 1
    assert torch.equal(whole.layer(h.held[0]), want)


def test_layers_asked_for_and_the_deepest_are_copied(model, copies):
    h = model.encode(TEXT, keep_mb=0)
    h.layers([3, 20, 9])
    assert h.held == (3, 9, 20) and len(copies) == 3
    h.layer(24)
    assert h.held == (3, 9, 20, 24) and len(copies) == 4


class Stopping(Host):
    """Stops after so many steps."""

    def __init__(self, after):
        self.left = after

    def step(self, done, total):
        self.left -= 1
        if not self.left:
            raise InterruptedError("stopped")


@pytest.mark.parametrize("keep_mb", [0, 512])
def test_an_interrupted_run_keeps_where_it_was(tiny_folder, copies, watch, keep_mb):
    model = vlm.load(tiny_folder(), dtype="float32", prefix_cache_mb=0)
    want = model.encode(TEXT).layer(20)
    model.engine.host = Stopping(8)
    h = model.encode(TEXT, keep_mb=keep_mb)
    copies.clear()
    with pytest.raises(InterruptedError):
        h.layer(20)
    assert h.depth == 8 and len(copies) == (1 if keep_mb == 0 else 9)
    count = watch(model)
    model.engine.host = Host()
    assert torch.equal(h.layer(20), want)
    assert count.layers == list(range(8, 20))


def test_what_a_layer_may_have_overwritten_is_not_kept(tiny_folder, monkeypatch):
    model = vlm.load(tiny_folder(), dtype="float32", prefix_cache_mb=0)
    want = model.encode(TEXT).layer(9)
    run_layer = model.backbone.run_layer

    def fail(layer, hidden, *more):
        if layer == 6:
            hidden.fill_(7.0)
            raise torch.OutOfMemoryError("full")
        return run_layer(layer, hidden, *more)

    h = model.encode(TEXT, keep_mb=0)
    with monkeypatch.context() as patch:
        patch.setattr(model.backbone, "run_layer", fail)
        with pytest.raises(torch.OutOfMemoryError):
            h.layer(9)
    assert torch.equal(h.layer(9), want)


class Away(Host):
    """Keeps everything on another device than the one that runs."""

    hold_device = cache_device = ELSEWHERE


class Order(TorchDispatchMode):
    """What happens, in order: `copy` to the other device, and what is added to `seen`."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and made.device == ELSEWHERE:
            self.seen.append("copy")
        return made


@pytest.mark.parametrize("keep_mb", [0, 512])
@pytest.mark.parametrize("cache_mb", [0, 1024])
def test_no_copy_before_the_last_layer_has_run(tiny_folder, monkeypatch, keep_mb, cache_mb):
    model = vlm.load(tiny_folder(), dtype="float32", host=Away(), prefix_cache_mb=cache_mb)
    system = "You describe pictures with great care, in plain words."
    h = model.encode(TEXT, system=system, keep_mb=keep_mb)
    run_layer, order = model.backbone.run_layer, Order()

    def noted(*arguments):
        order.seen.append("layer")
        return run_layer(*arguments)

    monkeypatch.setattr(model.backbone, "run_layer", noted)
    with order:
        h.reach(12)
    assert order.seen[:12] == ["layer"] * 12 and set(order.seen[12:]) == {"copy"}
    prefix = model.prefix_cache.get(h.store.prefix_key)
    assert (prefix is None) == (cache_mb == 0)
    held = [part for k in h.held for part in h.store.state(k)]
    kept = [] if prefix is None else [*prefix.states, *(p for pair in prefix.pairs for p in pair)]
    assert all(part.device == ELSEWHERE for part in [*held, *kept])
    copied = len(order.seen) - 12
    if keep_mb == 0:  # the layer, and the prefix with all that belongs to it
        assert copied == (1 if prefix is None else 2) and h.held == (12,)
    elif prefix is None:
        assert copied == len(held)
    else:  # a part that layers and prefix share goes over once, keys and values together
        assert copied == len({id(part) for part in [*held, *prefix.states]}) + 1


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen2_5_vl"])
def test_one_layer_of_a_picture_takes_three_copies(tiny_folder, picture, name):
    """The layer; what the prefix cache keeps of it; what it keeps of the picture."""
    model = vlm.load(tiny_folder(name), dtype="float32", host=Away())
    h = model.encode(TEXT, [picture(256, 256)], target="z-image", keep_mb=0)
    with Order() as order:
        h.reach(-2)
    assert order.seen == ["copy"] * 3
    assert model.prefix_cache.get(h.store.prefix_key).depth == 35


class Beside(Host):
    """Keeps everything elsewhere, on what is the CPU by another name, so that it has numbers."""

    hold_device = cache_device = torch.device("cpu", 0)


@pytest.mark.parametrize("keep_mb", [0, 512])
def test_what_goes_over_together_is_what_went_alone(tiny_folder, picture, keep_mb):
    """The first run's states, and those of runs that go on from the beginning it left."""
    folder, images = tiny_folder(), [picture(96, 64)]
    plain, other = (vlm.load(folder, dtype="float32", host=one) for one in (Host(), Beside()))
    for words in (TEXT, "another text"):
        want = plain.encode(words, images, target="z-image", keep_mb=keep_mb)
        ours = other.encode(words, images, target="z-image", keep_mb=keep_mb)
        for layer in (9, 20, -1):
            assert torch.equal(ours.layer(layer), want.layer(layer))
        assert ours.reused_tokens == want.reused_tokens
    assert ours.reused_tokens > 0
    theirs, known = (m.prefix_cache.get(ours.store.prefix_key) for m in (plain, other))
    for one, two in zip(known.pairs, theirs.pairs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_layers_held_let_go_of_the_prefix(tiny_folder):
    """Of few layers that stay; they hold neither keys nor the other layers in memory."""
    model = vlm.load(tiny_folder(), dtype="float32", host=Beside())
    h = model.encode(TEXT, system="You describe pictures with great care.", keep_mb=0)
    h.reach(12)
    assert len(model.prefix_cache) == 1
    for part in h.store.state(12):
        assert part.untyped_storage().nbytes() == part.nbytes


def test_what_waits_is_in_the_estimate(model):
    """Of room on the device that runs; what stays there needs no second place."""
    h = model.encode(TEXT)
    run = Run(model.engine, h.store, [20])
    plain = run._needed(TEXT_PART)
    model.host.device = torch.device("cuda")
    waiting = 21 * len(h.prompt.ids) * 64 * 2
    assert run._needed(TEXT_PART) == plain + waiting
    h = model.encode(TEXT, keep_mb=0)
    h.store.ask([20])
    one = Run(model.engine, h.store, [20])
    assert one._needed(TEXT_PART) == plain + waiting // 21


@pytest.mark.parametrize("keep_mb", [0, 512])
def test_the_rows_of_an_answer_are_in_the_estimate(model, monkeypatch, keep_mb):
    seen = []

    def stop(self, *_):
        rows = sum(each.nbytes for each in self._rows.values())
        with_rows, self._max_tokens = self._needed(TEXT_PART), 0
        seen.append((rows, with_rows - self._needed(TEXT_PART)))
        raise InterruptedError

    monkeypatch.setattr(Rewriting, "_advance", stop)
    with pytest.raises(InterruptedError):
        model.rewrite(TEXT, max_tokens=512, temperature=1.0, keep_mb=keep_mb)
    ((rows, estimate),) = seen
    assert 0 < rows <= estimate < 2 * rows + model.backbone.writing_bytes(512)
