"""The bound of the prefix cache: what is counted, what goes first, what an interrupt leaves."""

import pytest
import torch
from PIL import Image
from prefixes import FIRST, QWEN3, SECOND, fresh
from rounding import rounding

import vlm
from vlm.running.host import Host
from vlm.running.prefix_cache import Prefix, PrefixCache, VisionFeatures

# ---- the bound


def megabytes(model, text, images, depth, **kwargs):
    """What a prefix of that depth takes, its pictures' features included."""
    cache, model.engine.prefix_cache = model.prefix_cache, PrefixCache(1024)
    try:
        model.encode(text, images, depth=depth, **kwargs)
        return model.prefix_cache.bytes / 2**20
    finally:
        model.engine.prefix_cache = cache


def test_bytes_are_states_keys_and_values(v, one):
    h = v.encode(FIRST, one, depth=10)
    attention = v.backbone.text.layers[0].self_attn
    pair = attention.k_proj.out_features + attention.v_proj.out_features
    image = h.token_map["role"].count("image")
    features = image * 4 * 64 * (1 + v.backbone.num_deepstack)
    assert v.prefix_cache.bytes == h.prompt.prefix * 4 * (11 * 64 + 10 * pair) + features


@QWEN3
def test_hidden_states_share_the_prefix_with_the_cache(v, one):
    h = v.encode(FIRST, one, depth=4)
    again = v.encode(SECOND, one, depth=4)
    for k in range(5):
        assert h.store.state(k)[0].data_ptr() == again.store.state(k)[0].data_ptr()


def test_the_least_recently_used_goes_first(tiny, picture, watch):
    model = tiny("qwen3_vl", 4)
    pictures = [[picture(96, 96, seed)] for seed in range(3)]
    h = model.encode(FIRST, pictures[0], depth=4)
    # Room for two prefixes and one picture's features, but not for three prefixes.
    model.prefix_cache.limit = int(2.7 * model.prefix_cache.get(h.store.prefix_key).bytes)
    model.encode(FIRST, pictures[1], depth=4)
    model.encode(SECOND, pictures[0], depth=4)  # used again
    model.encode(FIRST, pictures[2], depth=4)  # so this pushes out the second
    assert len(model.prefix_cache) == 2
    assert model.prefix_cache.bytes <= model.prefix_cache.limit
    count = watch(model)
    model.encode("x", pictures[0], depth=4)
    model.encode("x", pictures[2], depth=4)
    assert count.pictures == 0
    model.encode("x", pictures[1], depth=4)
    assert count.pictures == 1


@QWEN3
def test_a_picture_is_looked_at_once(v, two, watch, err):
    """Whatever else is in the prompt, and however often it stands there."""
    count = watch(v)
    v.encode(FIRST, two, depth=12)
    assert count.pictures == 2
    for images, more in (
        (two[::-1], {}),
        (two[:1], {"system": "Look at the colors only, please."}),
        ([two[1], two[0], two[1]], {"target": "krea2"}),
        (two, {"mute": [1]}),
    ):
        h = v.encode(SECOND, images, depth=12, **more)
        assert count.pictures == 2
        assert err(h.layer(12), fresh(v, SECOND, images, layers=[12], **more)[:, 0]) <= rounding(12)
        count.restart()
        count.pictures = 2
    count.restart()
    v.prefix_cache.clear()
    v.encode(FIRST, [two[0], two[0]], depth=12)
    assert count.pictures == 1


@QWEN3
def test_a_deeper_level_of_deepstack_needs_no_second_look(v, one, watch, err):
    count = watch(v)
    h = v.encode(FIRST, one, depth=1)
    assert (count.pictures, v.backbone.num_deepstack) == (1, 3)
    states = h.layer(12)
    assert count.pictures == 1
    assert err(states, fresh(v, FIRST, one, layers=[12])[:, 0]) <= rounding(12)


@QWEN3
def test_features_are_looked_at_again_once_they_had_to_go(v, one, two, watch):
    v.encode(FIRST, one, depth=2)
    v.prefix_cache.limit = v.prefix_cache.bytes // 50  # neither the prefix nor the features fit
    v.prefix_cache.clear()
    count = watch(v)
    for text in (FIRST, SECOND):
        v.encode(text, one, depth=2)
    assert count.pictures == 2 and not v.prefix_cache.bytes


def test_getting_a_pictures_features_counts_as_using_them():
    cache = PrefixCache(1)
    a, b = (VisionFeatures(torch.zeros(1, 50 * 1024), (torch.zeros(1, 50 * 1024),)) for _ in "ab")
    prefix = Prefix(1, [torch.zeros(1, 1, 100 * 1024)])
    cache.put_features("a", a)
    cache.put("a", prefix)  # another kind under the same key
    assert cache.get_features("a") is a and cache.get("a") is prefix
    assert (len(cache), cache.bytes) == (1, 800 * 1024)
    cache.get_features("a")
    cache.put_features("b", b)
    assert (cache.get_features("a"), cache.get("a"), cache.get_features("b")) == (a, None, b)
    cache.drop("a")
    assert cache.get_features("a") is a


def test_getting_a_prefix_counts_as_using_it():
    cache = PrefixCache(1)
    a, b, c = (Prefix(1, [torch.zeros(1, 1, 100 * 1024)]) for _ in range(3))  # 400 kB each
    cache.put("a", a)
    cache.put("b", b)
    assert cache.get("a") is a
    cache.put("c", c)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (a, None, c)
    cache.put("a", a)  # again: not counted twice
    assert (len(cache), cache.bytes) == (2, 800 * 1024)
    cache.drop("nobody")
    cache.drop("a")
    assert (len(cache), cache.bytes) == (1, 400 * 1024)
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


@QWEN3
def test_a_limit_of_nothing_keeps_nothing(v, one, watch, err):
    v.prefix_cache.limit = 0
    v.encode(FIRST, one, depth=6)
    assert (len(v.prefix_cache), v.prefix_cache.bytes) == (0, 0)
    count = watch(v)
    h = v.encode(SECOND, one, depth=6)
    assert count.pictures == 1
    assert err(h.layer(6), fresh(v, SECOND, one, layers=[6])[:, 0]) <= rounding(6)
    empty = PrefixCache(0)
    empty.put("key", Prefix(1, [torch.zeros(1, 1, 8)]))
    assert len(empty) == 0


@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.99])
@QWEN3
def test_a_picture_too_long_for_the_bound(v, one, err, part):
    size = megabytes(v, FIRST, one, 20)
    v.prefix_cache.limit = int(part * size * 2**20)
    h = v.encode(FIRST, one)
    for k in (3, 9, 20):
        assert err(h.layer(k), fresh(v, FIRST, one, layers=[k])[:, 0]) <= 1e-4
        assert v.prefix_cache.bytes <= v.prefix_cache.limit
    again = v.encode(SECOND, one, depth=20)
    assert v.prefix_cache.bytes <= v.prefix_cache.limit
    ks = list(range(21))
    assert err(again.layers(ks), fresh(v, SECOND, one, layers=ks)) <= 1e-4


@QWEN3
def test_a_known_prefix_that_grows_over_the_bound(v, one, picture, err):
    v.prefix_cache.limit = int(1.2 * megabytes(v, FIRST, one, 9) * 2**20)
    first = v.encode(FIRST, one, depth=9)
    assert len(v.prefix_cache) == 1
    second = v.encode(SECOND, one, depth=30)
    assert v.prefix_cache.bytes <= v.prefix_cache.limit
    first.layer(30)
    assert v.prefix_cache.bytes <= v.prefix_cache.limit
    for h, text in ((first, FIRST), (second, SECOND)):
        assert err(h.layers([9, 10, 30]), fresh(v, text, one, layers=[9, 10, 30])) <= 1e-4


class Stop(Host):
    def __init__(self, at):
        self.at = at

    def step(self, done, total):
        if done == self.at:
            raise InterruptedError


@pytest.mark.parametrize("at", [1, 2, 4, 15])
@QWEN3
def test_an_interrupt_keeps_the_bound(v, one, two, at):
    v.prefix_cache.limit = int(1.5 * megabytes(v, FIRST, one, 12) * 2**20)
    v.encode(FIRST, one, depth=4)
    v.engine.host = Stop(at)
    for images in (one, two):
        with pytest.raises(InterruptedError):
            v.encode(SECOND, images, depth=30)
        assert v.prefix_cache.bytes <= v.prefix_cache.limit


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("depth", [0, 1, 4])
@QWEN3
@pytest.mark.slow
def test_an_interrupted_prefix_serves_prompts_begun_before(v, two, err, at, depth):
    begun = v.encode(FIRST, two, depth=depth)
    v.prefix_cache.clear()
    v.engine.host = Stop(at)
    with pytest.raises(InterruptedError):  # at 1 and 2 among the pictures, before any layer
        v.encode(SECOND, two, depth=30)
    v.engine.host = Host()
    want = fresh(v, FIRST, two, layers=[0, 1, 8])
    assert err(begun.layers([0, 1, 8]), want) <= 1e-4
    assert err(v.encode(FIRST, two).layers([0, 1, 8]), want) <= 1e-4


def test_the_cache_belongs_to_the_model(tiny_folder, one, watch):
    models = [vlm.load(tiny_folder("qwen3_vl", 2), dtype="float32") for _ in range(2)]
    models[0].encode(FIRST, one, depth=2)
    assert len(models[1].prefix_cache) == 0
    count = watch(models[1])
    models[1].encode(FIRST, one, depth=2)
    assert count.pictures == 1
    model = vlm.load(tiny_folder("qwen3_vl", 2), prefix_cache_mb=3)
    assert model.prefix_cache.limit == 3 * 2**20


def test_grey_and_colour_of_the_same_picture_share_a_prefix(tiny, picture, watch):
    model = tiny("qwen3_vl", 2)
    grey = picture(96, 96).convert("L")
    model.encode(FIRST, [grey], depth=2)
    count = watch(model)
    model.encode(SECOND, [grey.convert("RGB")], depth=2)
    model.encode(SECOND, [Image.merge("RGB", [grey] * 3)], depth=2)
    assert count.pictures == 0
