"""The prefix cache: what it saves, that it changes nothing, and its bound."""

import pytest
import torch
from prefixes import FIRST, QWEN3, SECOND, fresh
from rounding import rounding

import vlm

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
