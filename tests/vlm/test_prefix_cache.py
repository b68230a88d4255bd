"""The prefix cache: what it saves, that it changes nothing, and its bound."""

import pytest
import torch
from PIL import Image
from rounding import rounding

import vlm
from vlm.running.host import Host
from vlm.running.prefix_cache import Prefix, PrefixCache, VisionFeatures

FIRST = "a red house"
SECOND = "an entirely different prompt, and longer than the first one 你好"
# For what does not depend on the family; Qwen3-VL has everything the others have, and DeepStack.
QWEN3 = pytest.mark.parametrize("family", ["qwen3_vl"], indirect=True)


@pytest.fixture
def one(picture):
    return [picture(90, 150, 1)]


@pytest.fixture
def two(picture):
    return [picture(90, 150, 1), picture(120, 64, 2)]


def fresh(model, *args, layers, **kwargs):
    """The same encoding from nothing."""
    kept, model.engine.prefix_cache = model.prefix_cache, PrefixCache(0)
    try:
        return model.encode(*args, **kwargs).layers(layers)
    finally:
        model.engine.prefix_cache = kept


# ---- reuse


@pytest.mark.parametrize("number", [1, 2])
def test_another_text_runs_only_what_follows_the_pictures(v, one, two, watch, err, number):
    images = [one, two][number - 1]
    v.encode(FIRST, images, depth=36)
    count = watch(v)

    h = v.encode(SECOND, images, depth=36)

    rest = h.n - h.prompt.prefix
    assert count.ran == [(k, rest) for k in range(36)]
    assert count.pictures == 0
    assert h.reused_tokens == h.prompt.prefix > 8
    assert "image" not in h.token_map["role"][h.prompt.prefix :]
    ks = list(range(37))
    assert err(h.layers(ks), fresh(v, SECOND, images, layers=ks)) <= 1e-4


@QWEN3
def test_a_system_prompt_alone_is_a_prefix_too(v, watch, err):
    system = "You describe pictures with great care, in plain words."
    v.encode(FIRST, system=system, depth=12)
    count = watch(v)
    h = v.encode(SECOND, system=system, depth=12)
    assert count.ran == [(k, h.n - h.prompt.prefix) for k in range(12)]
    assert err(h.layer(12), fresh(v, SECOND, system=system, layers=[12])[:, 0]) <= 1e-4


def test_a_deeper_request_joins_the_prefix_where_it_ends(v, two, watch, err):
    v.encode(FIRST, two, depth=8)
    count = watch(v)
    h = v.encode(SECOND, two, depth=20)
    rest = h.n - h.prompt.prefix
    assert count.ran == [(k, rest if k < 8 else h.n) for k in range(20)]
    assert count.pictures == 0
    assert err(h.layers([0, 1, 8, 9, 20]), fresh(v, SECOND, two, layers=[0, 1, 8, 9, 20])) <= 1e-4

    count.restart()
    third = v.encode("third", two, depth=20)  # the second run made the prefix deeper
    assert count.cost == 20 * (third.n - third.prompt.prefix)
    assert err(third.layer(20), fresh(v, "third", two, layers=[20])[:, 0]) <= 1e-4


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@QWEN3
def test_a_prefix_that_ends_among_deepstacks_layers(v, two, err, depth):
    v.encode(FIRST, two, depth=depth)
    ks = [0, 1, 2, 3, 4, 9]
    assert err(v.encode(SECOND, two).layers(ks), fresh(v, SECOND, two, layers=ks)) <= 1e-4


def test_a_shallower_request_after_a_deep_one(v, two, watch, err):
    v.encode(FIRST, two, depth=30)
    count = watch(v)
    h = v.encode(SECOND, two, depth=5)
    assert count.ran == [(k, h.n - h.prompt.prefix) for k in range(5)]
    assert err(h.layer(5), fresh(v, SECOND, two, layers=[5])[:, 0]) <= 1e-4


def test_interleaved_prompts_deepen_each_others_prefix(v, two, watch, err):
    a, b, c = (v.encode(text, two) for text in (FIRST, SECOND, "third"))
    a.layer(4)
    b.layer(9)
    count = watch(v)
    a.layer(9)  # its own first 4 layers are held, the prefix is known to 9
    assert count.ran == [(k, a.n - a.prompt.prefix) for k in range(4, 9)]
    count.restart()
    c.layer(2)
    a.layer(14)
    c.layer(14)
    assert count.pictures == 0
    assert count.ran[-12:] == [(k, c.n - c.prompt.prefix) for k in range(2, 14)]
    b.layer(20)
    for h, text in ((a, FIRST), (b, SECOND), (c, "third")):
        ks = [0, 2, 4, 9, 14, 20]
        assert err(h.layers(ks), fresh(v, text, two, layers=ks)) <= 1e-4


@QWEN3
def test_an_empty_text_and_one_that_starts_with_a_newline(v, one, err):
    texts = ["", "\n\nwide", "\n", " ", "a", "", "é"]
    for text in texts:
        h = v.encode(text, one)
        assert err(h.layers([3, 12]), fresh(v, text, one, layers=[3, 12])) <= 1e-4
    assert 1 <= len(v.prefix_cache) <= 3


def test_half_precision_reuses_too(tiny_folder, one, watch, err):
    model = vlm.load(tiny_folder("qwen3_vl", 6), dtype="bfloat16")
    model.encode(FIRST, one, depth=6)
    count = watch(model)
    h = model.encode(SECOND, one, depth=6)
    assert count.cost == 6 * (h.n - h.prompt.prefix)
    assert h.layer(3).dtype == torch.bfloat16
    assert err(h.layer(6), fresh(model, SECOND, one, layers=[6])[:, 0]) <= 3e-2


# ---- no false hit


def changed_pixel(image):
    image = image.copy()
    image.putpixel((70, 40), tuple(255 - value for value in image.getpixel((70, 40))))
    return image


OTHERS = {
    "pixels": lambda two, picture: {"images": [changed_pixel(two[0]), two[1]]},
    "order": lambda two, picture: {"images": two[::-1]},
    "size": lambda two, picture: {"images": [two[0].resize((300, 180)), two[1]]},
    "one less": lambda two, picture: {"images": two[:1]},
    "twice the same": lambda two, picture: {"images": [two[0], two[0]]},
    "system": lambda two, picture: {"images": two, "system": "Look at the colors only, please."},
    "template": lambda two, picture: {"images": two, "template": "krea2"},
    "budget": lambda two, picture: {"images": two, "max_pixels": 8000},
}
# Pictures that the vision tower has not seen before, as many as there are of them.
NEW_PICTURES = {"pixels": 1, "size": 1, "budget": 2}


@pytest.mark.parametrize("case", OTHERS)
@QWEN3
def test_something_else_before_the_text_is_no_hit(v, two, picture, watch, err, case):
    v.encode(FIRST, two, depth=12)
    kwargs = OTHERS[case](two, picture)
    count = watch(v)
    h = v.encode(SECOND, depth=12, **kwargs)
    assert count.ran == [(k, h.n) for k in range(12)]
    assert count.pictures == NEW_PICTURES.get(case, 0)
    assert err(h.layer(12), fresh(v, SECOND, layers=[12], **kwargs)[:, 0]) <= rounding(12)


@QWEN3
def test_two_pictures_of_one_size_do_not_stand_for_each_other(v, picture, err):
    images = [picture(96, 96, seed) for seed in (1, 2)]
    for pair in (images, images[::-1]):
        h = v.encode(FIRST, pair)
        assert err(h.layer(8), fresh(v, FIRST, pair, layers=[8])[:, 0]) <= rounding(8)
    assert len(v.prefix_cache) == 2


def test_a_video_of_the_same_frames_at_another_rate(v, picture, watch):
    frames = [picture(64, 64, seed) for seed in range(8)]
    h = v.encode(FIRST, video=frames, fps=4.0, depth=3)
    count = watch(v)
    same = v.encode(SECOND, video=frames, fps=4.0, depth=3)
    assert count.cost == 3 * (same.n - same.prompt.prefix)
    if "qwen2_vl" in v.family.model_type:
        return  # its positions count frames, whatever their rate
    count.restart()
    slower = v.encode(SECOND, video=frames, fps=1.0, depth=3)
    assert h.prompt.vision_inputs[0].seconds != slower.prompt.vision_inputs[0].seconds
    assert count.layers == [0, 1, 2]
    assert count.ran[0][1] == slower.n


# ---- several prompts


def test_several_prompts_come_in_order_each_as_if_alone(v, two, watch, err):
    texts = ["third", FIRST, "", SECOND, "\nx", FIRST]
    alone = [fresh(v, text, two, layers=[0, 3, 20]) for text in texts]
    count = watch(v)
    several = v.encode(texts, two, depth=20)
    assert [h.token_map["n"] for h in several] == [a.shape[2] for a in alone]
    for h, want in zip(several, alone, strict=True):
        assert err(h.layers([0, 3, 20]), want) <= rounding(20)
    assert count.pictures <= 2 * len(two)  # "\nx" shortens the prefix
    assert isinstance(v.encode([FIRST], two), list)
    assert v.encode([], two) == []


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
