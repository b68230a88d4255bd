"""Conversations: all turns in one pass, equal to the family's own class, each run only once."""

import pytest
import torch
from rounding import rounding
from test_every_family import FAMILIES, FILMING
from test_placed import opened

import vlm
from vlm.families import FAMILIES as KNOWN
from vlm.running.prefix_cache import PrefixCache
from vlm.running.sampling import Sampling
from vlm.token_map import count_roles, map_text, read_map, turn_column

pytestmark = pytest.mark.slow

LAYERS = 6  # of what `made` gives
ASKED, ANSWER, PROMPT = "What does it eat?\n", " Bread, 面包, and jam. ", "Paint that"
every = pytest.mark.parametrize("family", FAMILIES)
QWEN3 = pytest.mark.parametrize("family", ["qwen3_vl"], indirect=True)


def talk(pictures=()):
    """Two turns; the first shows the first picture."""
    c = vlm.Conversation().user(ASKED, list(pictures[:1])).assistant(ANSWER)
    return c.user("And then?").assistant("It sleeps.")


def messages(family, pictures):
    """The same and the prompt, which shows the other pictures, as a chat template reads it."""
    said = [
        ("user", ASKED, len(pictures[:1])), ("assistant", ANSWER, 0), ("user", "And then?", 0),
        ("assistant", "It sleeps.", 0), ("user", PROMPT, len(pictures[1:])),
    ]  # fmt: skip
    plain = KNOWN[family].vision is None
    return [
        {"role": role, "content": text if plain else
         [{"type": "image"}] * count + [{"type": "text", "text": text}]}
        for role, text, count in said
    ]  # fmt: skip


# --- beside transformers


@every
def test_ids_and_states_are_those_of_one_pass_of_the_class(made, picture, err, family):
    model, reference = made(family)
    pictures = [picture(90, 150, 1), picture(64, 64, 2)] if KNOWN[family].has_vision else []
    h = model.encode(PROMPT, pictures[1:], conversation=talk(pictures))
    written = reference.tokenizer.apply_chat_template(
        messages(family, pictures),
        tokenize=False, add_generation_prompt=True, **KNOWN[family].chat_settings,
    )  # fmt: skip
    if pictures:
        written = opened(written, model, h, [0, 1])
    want = reference.tokenizer(written, add_special_tokens=False)["input_ids"]
    assert list(h.prompt.ids) == want
    for layer, stream in enumerate(reference.streams(h)):
        assert err(h.layer(layer), stream) <= rounding(layer)


@every
def test_an_answer_is_what_generate_writes_behind_all_turns(made, picture, family):
    model, reference = made(family)
    pictures = [picture(64, 96)] if KNOWN[family].has_vision else []
    h = model.encode(PROMPT, conversation=talk(pictures), system="")
    with torch.no_grad():
        out = reference.model.generate(**reference.inputs(h), max_new_tokens=8, do_sample=False)
    stops = model.tokenizer.find(*model.family.stop_tokens)
    want = [number for number in out[0, h.n :].tolist() if number not in stops]
    found = model.rewrite(
        PROMPT, conversation=talk(pictures), system="", max_tokens=8, temperature=0
    )
    assert list(found.states.prompt.ids[h.n :]) == want


@pytest.mark.parametrize("family", FILMING)
def test_a_video_in_an_earlier_turn(made, picture, err, family):
    model, reference = made(family)
    frames = [picture(64, 96, seed) for seed in range(4)]
    c = vlm.Conversation().user("What is it?", [picture(64, 64)], video=frames, fps=2.0)
    h = model.encode(PROMPT, [picture(90, 64, 5)], conversation=c.assistant("A dog."))
    assert [one.is_video for one in h.prompt.vision_inputs] == [False, True, False]
    for layer, stream in enumerate(reference.streams(h)):
        assert err(h.layer(layer), stream) <= rounding(layer)


# --- the token map


@every
def test_roles_and_turns(made, picture, family):
    model, _ = made(family)
    pictures = [picture(64, 64), picture(64, 64, 1)] if KNOWN[family].has_vision else []
    h = model.encode(PROMPT, pictures[1:], conversation=talk(pictures), system="You paint.")
    places, said = h.token_map, {}
    columns = zip(h.prompt.ids, places["role"], turn_column(places), strict=True)
    for number, role, turn in columns:
        if role in ("text", "generated"):
            said.setdefault((role, turn), []).append(number)
    words = {key: model.tokenizer.text_of(ids).strip() for key, ids in said.items()}
    assert words == {
        ("text", 0): ASKED.strip(), ("generated", 0): ANSWER.strip(),
        ("text", 1): "And then?", ("generated", 1): "It sleeps.", ("text", 2): PROMPT,
    }  # fmt: skip
    assert turn_column(places) == sorted(turn_column(places))
    if pictures:
        turns = {i: t for i, t in zip(places["image"], turn_column(places), strict=True) if i >= 0}
        assert turns == {0: 0, 1: 2}


@QWEN3
def test_the_map_of_a_conversation_is_plain_data_of_version_2(v):
    plain, h = v.encode(PROMPT).token_map, v.encode(PROMPT, conversation=talk()).token_map
    assert plain["version"] == 1 and "turn" not in plain
    assert h["version"] == 2 and set(h["turn"]) == {0, 1, 2}
    assert read_map(map_text(h), h["n"]) == h and read_map(map_text(plain), plain["n"]) == plain


@QWEN3
def test_a_filter_keeps_turns(v):
    h = v.encode(PROMPT, conversation=talk())
    last = vlm.filter_tokens(h, "prompt", turns=2)
    assert count_roles(last.token_map) == {"text": len(v.tokenizer.split(PROMPT)[0])}
    both = vlm.filter_tokens(h, "all", turns=[0, 2])
    assert set(both.token_map["turn"]) == {0, 2}
    first = vlm.filter_tokens(h, ("generated",), turns=[0])
    assert first.token_map["version"] == 1 and first.n == len(v.tokenizer.split(ANSWER)[0])
    with pytest.raises(ValueError, match=r"Turn 3 does not exist: .* turns 0, 1, 2"):
        vlm.filter_tokens(h, turns=3)
    with pytest.raises(ValueError, match="Turn 1 does not exist"):
        vlm.filter_tokens(v.encode("a"), turns=[1])


# --- templates and gates


@pytest.mark.parametrize("target", ["z-image", "flux2-klein-4b", "krea2", "qwen-image", "boogu"])
@QWEN3
def test_layouts_with_turns_of_their_own(v, picture, target):
    pictures = [picture(64, 64), picture(64, 64, 1)]
    h = v.encode(PROMPT, pictures[1:], conversation=talk(pictures), target=target)
    plain = v.encode(PROMPT, pictures[1:], target=target)
    real = [i for i, role in zip(h.prompt.ids, h.token_map["role"], strict=True) if role != "pad"]
    written = v.tokenizer.text_of(real)
    earlier = (
        f"<|im_start|>user\n<pictures>{ASKED}<|im_end|>\n<|im_start|>assistant\n{ANSWER}"
        "<|im_end|>\n<|im_start|>user\nAnd then?<|im_end|>\n<|im_start|>assistant\nIt sleeps."
        "<|im_end|>\n<|im_start|>user\n"
    )
    shown = "<|vision_start|>" + "<|image_pad|>" * h.token_map["image"].count(0)
    shown = shown.replace("<|image_pad|>", "", 2) + "<|vision_end|>"
    assert earlier.replace("<pictures>", shown) in written
    assert h.dropped == plain.dropped
    tokens = vlm.select_layers(h)
    assert tokens.n == h.n - h.dropped


@pytest.mark.parametrize("template", ["raw", "minimax-h3"])
@QWEN3
def test_layouts_without_turns_refuse(v, template):
    with pytest.raises(ValueError, match="has no turns, and a conversation is made of them"):
        v.encode(PROMPT, conversation=talk(), template=template)


@QWEN3
def test_words_place_the_pictures_of_their_own_turn(v, picture):
    c = vlm.Conversation().user("a <image1> b", [picture(64, 64)]).assistant("c")
    h = v.encode("d <image1> e", [picture(90, 64)], conversation=c, placed=True)
    kinds = [image if image >= 0 else role for role, image in
             zip(h.token_map["role"], h.token_map["image"], strict=True)]  # fmt: skip
    order = [k for at, k in enumerate(kinds) if k != "template" and k != kinds[at - 1]]
    assert order == ["text", 0, "text", "generated", "text", 1, "text"]


# --- what a turn costs


def answering(monkeypatch, model, words):
    """Has the model answer with these words."""
    ids = [*model.tokenizer.split(words)[0], min(model.stops)]
    monkeypatch.setattr(Sampling, "choose", lambda self, logits, generator: ids.pop(0))


def test_each_turn_runs_only_its_own_tokens(v, picture, watch, err, monkeypatch):
    pictures = [picture(90, 150, 1), picture(64, 64, 2)]
    c, before, turns = vlm.Conversation(), 0, []
    for number, words in enumerate(("Bread.", "It sleeps now.", "A red house")):
        shown = pictures[number : number + 1]
        answering(monkeypatch, v, words)
        count = watch(v)
        made = v.rewrite(f"Question {number}?", shown, conversation=c, system="", max_tokens=20)
        assert made.text == words and count.pictures == len(shown)
        assert made.states.reused_tokens == before
        own = [n for layer, n in count.ran if layer == 0]
        assert sum(own) == made.states.n - before
        before = made.states.n
        turns.append(made)
        c = c.user(f"Question {number}?", shown).assistant(made.text)
    kept, v.engine.prefix_cache = v.prefix_cache, PrefixCache(0)
    fresh = v.encode(f"Question {2}?", conversation=talk_of(c), system="")
    ends = fresh.n
    for layer in (0, 1, 3, 12, 36):
        assert err(turns[-1].states.layer(layer)[:, :ends], fresh.layer(layer)) <= 1e-4
    v.engine.prefix_cache = kept


def talk_of(conversation):
    """The turns of a conversation but the last."""
    return vlm.Conversation(conversation.turns[:-1])


@QWEN3
def test_encoding_goes_on_from_what_was_encoded(v, picture, watch, err):
    pictures = [picture(90, 150)]
    c = vlm.Conversation().user("What is it?", pictures).assistant("A dog.")
    one = v.encode("Paint it", conversation=c, depth=12)
    count = watch(v)
    other = v.encode("Draw it, with a hat", conversation=c, depth=12)
    assert count.pictures == 0 and other.reused_tokens > one.token_map["turn"].count(0)
    count.restart()
    longer = c.user("Paint it").assistant("Done.")
    two = v.encode("And a cat", conversation=longer, depth=12)
    assert two.reused_tokens >= one.n - 6  # all but the beginning of the answer's turn
    kept, v.engine.prefix_cache = v.prefix_cache, PrefixCache(0)
    assert err(two.layer(12), v.encode("And a cat", conversation=longer).layer(12)) <= 1e-4
    v.engine.prefix_cache = kept


# --- what it is made of


@QWEN3
def test_none_yet_is_the_prompt_alone(v):
    alone = v.encode(PROMPT).prompt
    empty = v.encode(PROMPT, conversation=vlm.Conversation()).prompt
    assert empty.ids == alone.ids and empty.token_map == alone.token_map
    assert empty.prefix == alone.prefix and empty.shared == alone.shared


def test_it_never_changes():
    empty = vlm.Conversation()
    asked = empty.user("a")
    assert empty.turns == () and asked.is_open and not asked.assistant("b").is_open
    assert repr(asked.assistant("b")) == "Conversation(1 turns, 1 answers)"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda c: c.assistant("a"), "begins with the user's turn"),
        (lambda c: c.user("a").assistant("b").assistant("c"), "begins with the user's turn"),
        (lambda c: c.user("a").user("b"), "Two turns of the user"),
        (lambda c: c.user("  "), "says nothing"),
        (lambda c: c.user("", []), "says nothing"),
        (lambda c: c.user("a").assistant(" \n"), "answer of this turn is empty"),
    ],
)
def test_turns_that_cannot_be(make, words):
    with pytest.raises(ValueError, match=words):
        make(vlm.Conversation())


@QWEN3
def test_a_conversation_that_waits(v):
    with pytest.raises(ValueError, match="nobody answered"):
        v.encode(PROMPT, conversation=vlm.Conversation().user("a"))
    with pytest.raises(TypeError, match="`conversation` of `encode`"):
        v.encode(PROMPT, conversation=[("user", "a")])


def test_another_model_goes_on_with_it(made, picture, err):
    """It is words and pictures; nothing of the first model's is in it."""
    model, _ = made("qwen2_vl")
    pictures = [picture(64, 64)]
    first = model.rewrite("a", pictures, max_tokens=6, temperature=0)
    c = vlm.Conversation().user("a", pictures).assistant(first.text)
    other, reference = made("qwen3_vl")
    h = other.encode(PROMPT, conversation=c)
    assert h.reused_tokens == 0
    assert err(h.layer(-1), reference.streams(h)[-1]) <= rounding(LAYERS)
    with pytest.raises(ValueError, match="reads text only, pictures or a video were given"):
        made("qwen3")[0].encode(PROMPT, conversation=c)
