"""A run: progress, interruption in the middle, NaN and Inf; none of them spoils what comes next."""

import pytest
import torch
from rounding import rounding

import vlm
from vlm.running.host import Host

TEXT = "A red house by the river, 你好 🎨, oil painting"
# For what does not depend on the family; Qwen3-VL has everything the others have, and DeepStack.
QWEN3 = pytest.mark.parametrize("family", ["qwen3_vl"], indirect=True)


@pytest.fixture
def pictures(picture):
    return lambda sizes: [picture(*size, seed) for seed, size in enumerate(sizes)]


# ---- progress and interruption


class Steps(Host):
    """Records progress; stops after so many steps."""

    def __init__(self, stop=None):
        self.seen, self.stop, self.runs = [], stop, []

    def bring(self, part, memory_bytes, keyframe=0):
        self.runs.append((part, memory_bytes))

    def step(self, done, total):
        self.seen.append((done, total))
        if done == self.stop:
            raise InterruptedError("stopped by the user")


def assert_counts_up(steps):
    total = steps[-1][1]
    assert steps == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("first", [None, 0, 1, 2, 8, 30])
@QWEN3
def test_progress_counts_to_its_total(v, pictures, first):
    images = pictures([(90, 150), (64, 64)])
    v.engine.host = host = Steps()
    if first is not None:
        v.encode("another", images, depth=first)
        if host.seen:
            assert_counts_up(host.seen)
            host.seen.clear()
    h = v.encode(TEXT, images)
    for k in (1, 12, 33):
        h.layer(k)
        assert_counts_up(host.seen)
        host.seen.clear()
    h.layer(20)
    assert host.seen == []


@QWEN3
def test_the_host_is_told_before_every_run_and_only_then(v, pictures):
    v.engine.host = host = Steps()
    h = v.encode(TEXT, pictures([(90, 150)]))
    assert host.runs == []
    h.layer(2)
    h.layer(1)
    assert [part for part, _ in host.runs] == ["vision", "text"]  # one after the other
    assert all(needed > h.token_map["n"] * 64 * 4 for _, needed in host.runs)
    h.layer(3)  # DeepStack goes on, with the features that are there
    h.layer(4)
    assert [part for part, _ in host.runs[2:]] == ["text", "text"]
    v.prefix_cache.clear()
    h = v.encode(TEXT, pictures([(90, 150)]), depth=2)
    v.prefix_cache.clear()
    h.layer(3)
    assert [part for part, _ in host.runs[4:]] == ["vision", "text"] * 2


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "prefix known"])
@pytest.mark.parametrize("stop", [1, 2, 3, 10])
@QWEN3
@pytest.mark.slow
def test_an_interrupt_leaves_everything_right(v, pictures, err, stop, warm):
    images = pictures([(90, 150), (64, 64)])
    want = v.encode(TEXT, images, depth=20).layers([1, 8, 20])
    v.prefix_cache.clear()
    if warm:
        v.encode("another", images, depth=6)
    h = v.encode(TEXT, images)
    v.engine.host = Steps(stop)
    with pytest.raises(InterruptedError, match="stopped by the user"):
        h.layer(20)

    v.engine.host = Host()
    assert err(h.layers([1, 8, 20]), want) <= 1e-4
    assert err(v.encode(TEXT, images).layers([1, 8, 20]), want) <= 1e-4
    v.prefix_cache.clear()
    assert err(v.encode(TEXT, images).layers([1, 8, 20]), want) <= rounding(20)


def test_an_interrupted_run_goes_on_where_it_stopped(tiny, watch):
    model = tiny()
    model.engine.host = Steps(10)
    h = model.encode(TEXT)
    with pytest.raises(InterruptedError):
        h.layer(20)
    model.engine.host = Host()
    count = watch(model)
    h.layer(20)
    assert count.layers == list(range(h.held[0] + 10, 20))


# ---- NaN and Inf


@pytest.fixture
def half(tiny_folder):
    return vlm.load(tiny_folder("qwen3_vl", 8), dtype="float16")


def overflowing(model):
    return model.backbone.text.layers[3].mlp.down_proj.weight


@pytest.mark.slow
@pytest.mark.parametrize("keep_mb", [512, 0], ids=["kept", "bound"])
def test_overflow_names_the_layer_and_advises_bfloat16(half, changed, picture, keep_mb):
    h = half.encode(TEXT, [picture(90, 150)], keep_mb=keep_mb)
    with changed(overflowing(half), 6e4), pytest.raises(ValueError) as error:
        h.layer(8)
    text = str(error.value)
    assert "`encode`" in text
    assert "float16" in text
    assert "bfloat16" in text
    assert "layer 4 " in text or keep_mb == 0


def test_overflow_poisons_nothing(half, changed, picture, err):
    images = [picture(90, 150)]
    want = half.encode(TEXT, images, depth=8).layers([2, 3, 8])
    half.prefix_cache.clear()
    h = half.encode(TEXT, images)
    with changed(overflowing(half), 6e4):
        assert torch.isfinite(h.layer(3)).all()
        with pytest.raises(ValueError, match="NaN or Inf"):
            h.layer(8)
        with pytest.raises(ValueError, match="NaN or Inf"):
            h.layer(4)
        other = half.encode("another text", images)
        assert torch.isfinite(other.layer(3)).all()

    assert err(h.layers([2, 3, 8]), want) <= 2e-2
    assert err(half.encode(TEXT, images).layers([2, 3, 8]), want) <= 2e-2
    assert err(half.encode("x", images).layer(8), half.encode("x", images).layer(8)) == 0
    assert torch.isfinite(other.layer(8)).all()


def test_overflow_in_the_text_behind_a_known_prefix(half, changed, picture):
    images = [picture(90, 150)]
    half.encode(TEXT, images, depth=8)
    h = half.encode("another text", images)
    with changed(overflowing(half), 6e4), pytest.raises(ValueError, match="layer 4 .*NaN or Inf"):
        h.layer(8)
    assert torch.isfinite(h.layer(8)).all()


def test_overflow_in_the_vision_tower_is_found(half, changed, picture):
    weight = half.backbone.model.visual.merger.linear_fc2.weight
    h = half.encode(TEXT, [picture(90, 150)])
    with changed(weight, 6e4), pytest.raises(ValueError, match="layer 0 .*NaN or Inf.*bfloat16"):
        h.layer(0)
    assert torch.isfinite(h.layer(2)).all()


def test_nan_weights_in_float32_are_not_blamed_on_the_dtype(tiny_folder):
    model = vlm.load(tiny_folder("qwen3_vl", 2), dtype="float32")
    with torch.no_grad():
        model.backbone.text.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="layer 2 .*NaN or Inf") as error:
        model.encode(TEXT).layer(2)
    assert "bfloat16" not in str(error.value)
    assert "download" in str(error.value)
