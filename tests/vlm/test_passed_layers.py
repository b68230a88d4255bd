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
    # A part that layers and prefix share goes over once.
    assert len(order.seen) - 12 == len({id(part) for part in [*held, *kept]})


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
