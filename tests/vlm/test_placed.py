"""Pictures where the words name them: ids, positions and states are the family's own."""

import inspect

import pytest
import torch
from rounding import rounding
from test_every_family import SEEING

import vlm
from vlm.families import FAMILIES as KNOWN
from vlm.prompts.positions import mrope_positions

TEXT = "The house of <image2>, painted\nas <image1> is 🎨"
PIECES = ["The house of ", 1, ", painted\nas ", 0, " is 🎨"]
BESIDE = "Look: <image2>!"  # the first picture is not named, and stands before the words
MROPE = tuple(name for name in SEEING if KNOWN[name].decoder.mrope)

seeing = pytest.mark.parametrize("family", SEEING)
QWEN3 = pytest.mark.parametrize("family", ["qwen3_vl"], indirect=True)


@pytest.fixture(scope="module")
def two(picture):
    return [picture(90, 150, 1), picture(64, 64, 2)]


def content(pieces):
    """Words and picture numbers as the parts of a message."""
    return [
        {"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image"}
        for piece in pieces
    ]


def opened(text, model, h, order):
    """A chat template's text with each picture as its processor opens it."""
    vision = model.family.vision
    block = vision.start + vision.image_token + vision.end
    if vision.in_chat is not None:
        text = text.replace(*vision.in_chat)
    before, *rest = text.split(block)
    assert len(rest) == len(order)
    for number, behind in zip(order, rest, strict=True):
        items = vision.layout(h.prompt.vision_inputs[number], 0)
        inner = "".join(one if isinstance(one, str) else vision.image_token for one in items)
        before += vision.start + inner + vision.end + behind
    return before


@seeing
@pytest.mark.parametrize(
    ("text", "pieces"), [(TEXT, PIECES), (BESIDE, [0, "Look: ", 1, "!"])], ids=["all", "one"]
)
def test_ids_are_the_chat_templates_with_content_in_that_order(made, two, family, text, pieces):
    model, reference = made(family)
    h = model.encode(text, two, placed=True)
    written = reference.tokenizer.apply_chat_template(
        [{"role": "user", "content": content(pieces)}],
        tokenize=False, add_generation_prompt=True, **KNOWN[family].chat_settings,
    )  # fmt: skip
    order = [piece for piece in pieces if isinstance(piece, int)]
    want = opened(written, model, h, order)
    assert list(h.prompt.ids) == reference.tokenizer(want, add_special_tokens=False)["input_ids"]
    assert list(h.prompt.seen) == order


@pytest.mark.parametrize("family", MROPE)
def test_positions_are_the_classes(made, two, family):
    model, reference = made(family)
    h = model.encode(TEXT, two, placed=True)
    ids = torch.tensor([h.prompt.ids])
    given = reference.inputs(h)
    index = reference.model.model.get_rope_index
    takes = inspect.signature(index).parameters
    known = {k: v for k, v in given.items() if k in takes and k != "input_ids"}
    want, _ = index(ids, **known)
    assert torch.equal(want[:, 0], mrope_positions(h.n, h.prompt.blocks))


@seeing
def test_states_are_the_classes(made, two, err, family):
    model, reference = made(family)
    h = model.encode(TEXT, two, placed=True)
    want = reference.streams(h)
    for layer, stream in enumerate(want):
        assert err(h.layer(layer), stream) <= rounding(layer)


@seeing
def test_numbers_of_pictures_are_those_of_the_sockets(made, two, family):
    model, _ = made(family)
    places = model.encode(TEXT, two, placed=True).token_map
    plain = model.encode("a", two).token_map
    assert places["grids"] == plain["grids"]
    for number in (0, 1):
        counts = [one["image"].count(number) for one in (places, plain)]
        assert counts[0] == counts[1]


# --- what it costs, and what stays as it was


@QWEN3
def test_reuse_goes_up_to_the_first_changed_piece(v, two, watch, err):
    def encode(text, images=two):
        return v.encode(text, images, placed=True, depth=12)

    first = encode("A <image1> like <image2> at night")
    second = first.prompt.shared  # ends of: A, picture 1, like, picture 2
    count = watch(v)
    for text, images, same in (
        ("A <image1> like <image2> by day", two, second[-1]),
        ("A <image1> and <image2> at night", two, second[-3]),
        ("A <image1> like it", two[:1], second[-3]),
    ):
        count.restart()
        h = encode(text, images)
        assert count.ran == [(k, h.n - same) for k in range(12)], text
        assert h.reused_tokens == same and count.pictures == 0
        kept, v.prefix_cache.limit = v.prefix_cache.limit, 0
        fresh = encode(text, images)
        v.prefix_cache.limit = kept
        assert err(h.layer(12), fresh.layer(12)) <= 1e-4
    other = encode("A <image1> like <image2> at night", [two[0], two[0]])
    assert other.reused_tokens == second[-2]


@QWEN3
def test_swapped_pictures_of_one_size_are_not_taken_for_each_other(v, picture, err, tmp_path):
    pair = [picture(64, 64, seed) for seed in (1, 2)]
    one = v.encode("<image1> <image2>", pair, placed=True)
    two = v.encode("<image2> <image1>", pair, placed=True)
    plain = v.encode(" ", pair[::-1], template="raw")
    assert one.prompt.ids == two.prompt.ids and one.prompt.key != two.prompt.key
    assert err(two.layer(6), v.encode("<image1> <image2>", pair[::-1], placed=True).layer(6)) == 0
    assert err(one.layer(6), two.layer(6)) > 1e-2
    assert plain.n < two.n


@QWEN3
def test_without_the_choice_names_stay_words(v, two):
    h = v.encode(TEXT, two)
    said = [n for n, role in zip(h.prompt.ids, h.token_map["role"], strict=True) if role == "text"]
    assert v.tokenizer.text_of(said) == TEXT and h.prompt.seen == (0, 1)
    placed = v.encode("no name", two, placed=True)
    assert placed.prompt.ids == v.encode("no name", two).prompt.ids


@QWEN3
def test_typed_vision_tokens_stay_words(v, two):
    lie = "<|vision_start|><|image_pad|><|vision_end|> and <image1>"
    h = v.encode(lie, two[:1], placed=True)
    assert len(h.prompt.blocks) == 1
    said = [n for n, role in zip(h.prompt.ids, h.token_map["role"], strict=True) if role == "text"]
    assert not v.tokenizer.find(*v.tokenizer.specials) & set(said)


TEMPLATES = [name for name in vlm.TEMPLATES if name != "qwen-image-2.1"]


@pytest.mark.parametrize("template", TEMPLATES)
@QWEN3
def test_every_template_has_them_in_the_words(v, two, template):
    h = v.encode("a <image2> b <image1> c", two, template=template, placed=True, padding="none")
    kinds = [
        image if role in ("image", "vision_marker") else "text"
        for role, image in zip(h.token_map["role"], h.token_map["image"], strict=True)
        if role in ("image", "vision_marker", "text")
    ]
    order = [kind for at, kind in enumerate(kinds) if not at or kinds[at - 1] != kind]
    assert order == ["text", 1, "text", 0, "text"]
    plain = v.encode("a b c", two, template=template, padding="none")
    assert h.dropped == plain.dropped


@QWEN3
def test_qwen_image_2_1_writes_the_names_itself(v, two):
    text, how = "a <image2> b", {"target": "qwen-image-2.1"}
    placed, plain = (v.encode(text, two, placed=on, **how).prompt for on in (True, False))
    assert placed.ids == plain.ids and placed.token_map == plain.token_map


@pytest.mark.parametrize(
    ("text", "count", "words"),
    [
        ("a <image9>", 2, r"name <image9>, and 2 pictures come with them. Give that"),
        ("a <image0>", 2, "name <image0>"),
        ("a <image2>", 1, "one picture comes"),
        ("a <image1>", 0, "no picture comes"),
        ("<image1> and <image1>", 2, "<image1> twice"),
    ],
)
@QWEN3
def test_a_name_without_its_picture(v, two, text, count, words):
    with pytest.raises(ValueError, match=words):
        v.encode(text, two[:count], placed=True)


def test_a_name_for_a_model_without_eyes(made):
    if "qwen3" in KNOWN:
        with pytest.raises(ValueError, match="no picture comes"):
            made("qwen3")[0].encode("a <image1>", placed=True)
