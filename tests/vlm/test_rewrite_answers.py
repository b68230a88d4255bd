"""Several answers from one run of the prompt, and what stands around prompt and answer."""

import pytest
import torch

from vlm.running.hidden_states import HiddenStates
from vlm.running.host import Host
from vlm.token_map import count_roles

pytestmark = pytest.mark.slow

TEXT = "A red house by the river"
GREEDY = {"temperature": 0, "max_tokens": 8}
HOT = {"temperature": 1.5, "top_p": 1.0, "top_k": 0, "seed": 5, "max_tokens": 8}
QWEN3 = pytest.mark.parametrize("family", ["qwen3_vl"], indirect=True)
# A cache of keys and values, sliding windows, and one whose states no token can be taken out of.
KINDS = pytest.mark.parametrize("family", ["qwen3_vl", "gemma3", "qwen3_5"], indirect=True)


class Reading(Host):
    """Counts how often the prompt runs."""

    def __init__(self):
        self.runs = 0

    def bring(self, part, memory_bytes, keyframe=0):
        self.runs += part == "text"


def encoded_again(v, states):
    """The same tokens through the model once more, with nothing to reuse."""
    v.prefix_cache.clear()
    return HiddenStates(v.engine, states.prompt, states.target, 512)


@KINDS
def test_each_answer_is_that_of_its_seed(v, picture, err):
    v.engine.host = host = Reading()
    pictures = [picture(70, 100)]
    made = v.rewrite(TEXT, pictures, answers=3, **HOT)
    assert host.runs == 1
    alone = [v.rewrite(TEXT, pictures, **HOT | {"seed": 5 + number}) for number in range(3)]
    several = [made, *made.others]
    assert [one.text for one in several] == [one.text for one in alone]
    assert len({one.text for one in several}) == 3
    for one in several:
        assert err(one.states.layer(-1), encoded_again(v, one.states).layer(-1)) < 1e-4


@QWEN3
def test_progress_counts_every_answer(v, monkeypatch):
    monkeypatch.setattr(v, "stops", frozenset())
    seen = []
    v.engine.host = Host()
    v.engine.host.step = lambda done, total: seen.append((done, total))
    v.rewrite(TEXT, answers=2, **HOT)
    total = 36 + 2 * 8
    assert seen == [(i, total) for i in range(1, total + 1)] + [(total, total)]


@QWEN3
def test_an_answer_of_blanks_is_left_out(v, monkeypatch):
    texts = iter(["one", " \n", "three"])
    monkeypatch.setattr(v.tokenizer, "words_of", lambda ids: next(texts))
    made = v.rewrite(TEXT, answers=3, **HOT)
    assert [made.text, *(other.text for other in made.others)] == ["one", "three"]


@QWEN3
def test_the_next_turn_begins_with_the_first_answer(v):
    import vlm

    made = v.rewrite(TEXT, system="", answers=2, **HOT)
    talk = vlm.Conversation().user(TEXT).assistant(made.text)
    after = v.encode("and now?", conversation=talk, system="", depth=-1)
    assert after.reused_tokens > 0


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"answers": 100}, "answers is 100; expected 1 to 16"),
        ({"answers": 0}, "answers is 0; expected 1 to 16"),
        ({"answers": 2, "temperature": 0}, "at temperature 0 all of them would be the same"),
        ({"padding": "up"}, "padding is 'up'; choose one of"),
    ],
)
@QWEN3
def test_what_is_refused(v, how, match):
    with pytest.raises(ValueError, match=match):
        v.rewrite(TEXT, **how)


# ---- while it writes


@QWEN3
def test_every_token_is_told_and_may_stop_it(v, monkeypatch):
    monkeypatch.setattr(v, "stops", frozenset())
    told = []
    made = v.rewrite(TEXT, on_token=told.append, **GREEDY)
    assert [len(ids) for ids in told] == [*range(1, 9)]
    assert v.tokenizer.words_of(told[-1]) == made.text

    def stop(ids):
        if len(ids) == 3:
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError):
        v.rewrite(TEXT, on_token=stop, **GREEDY)
    assert v.rewrite(TEXT, **GREEDY).text == made.text


# ---- pad tokens, and what else stands in the prompt


@pytest.mark.parametrize("given", [None, "a blue house"])
@pytest.mark.parametrize(
    ("target", "template", "padding", "side"),
    [
        ("flux2-klein-4b", "chat", "auto", "right"),
        ("flux1", "x2i", "auto", "left"),
        ("z-image", "chat", "right", "right"),
        ("z-image", "chat", "auto", None),
    ],
)
@QWEN3
def test_pad_tokens_around_prompt_and_answer(v, err, target, template, padding, side, given):
    how = {"target": target, "template": template, "answer": given, **GREEDY}
    plain = v.rewrite(TEXT, **how)
    made = v.rewrite(TEXT, padding=padding, **how)
    assert made.text == plain.text and made.tokens == plain.tokens
    n = plain.states.n
    pads = count_roles(made.states.token_map).get("pad", 0)
    assert made.states.n == n + pads and pads == (0 if side is None else 512 - n)
    start = pads if side == "left" else 0
    kept = made.states.take(range(start, start + n))
    assert kept.token_map["role"] == plain.states.token_map["role"]
    for layer in (0, 9, -1):
        assert err(kept.layer(layer), plain.states.layer(layer)) < 1e-4
    if side == "right" and given is None:
        assert made.states.reused_tokens == n  # the pad tokens alone ran
    assert err(made.states.layer(-1), encoded_again(v, made.states).layer(-1)) < 1e-4


@QWEN3
def test_x2is_layout_with_a_video_and_an_editing_text(v, err):
    film = torch.rand(4, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    shared = {"video": film, "fps": 2.0, "template": "x2i", "edit": "Style only", "system": ""}
    made = v.rewrite(TEXT, target="flux1", **shared, **GREEDY)
    before = v.encode(TEXT, target="flux1", padding="none", **shared)
    n = before.n
    assert made.states.prompt.ids[:n] == before.prompt.ids
    assert "Style only" in v.tokenizer.text_of(list(made.states.prompt.ids))
    assert err(made.states.layer(-1)[:, :n], before.layer(-1)) < 1e-4
