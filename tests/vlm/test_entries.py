"""CONDITIONING in and out, and how entries meet that native nodes combined or gave ranges."""

import copy

import pytest
import torch

import vlm
from vlm.conditioning.entries import Entry, map_tokens, pair, read_entries, write_entries
from vlm.tokens.tokens import Tokens


def conditioning(n=4, width=8, token_map=None, seed=0, **options):
    """One entry as CLIP Text Encode makes it."""
    states = torch.randn(1, n, width, generator=torch.Generator().manual_seed(seed))
    if token_map is not None:
        options["vlm_tokens"] = token_map
    return [[states, {"pooled_output": None, **options}]]


def set_range(cond, start, end):
    """ConditioningSetTimestepRange: a shallow copy whose range is overwritten."""
    return [[states, {**options, "start_percent": start, "end_percent": end}]
            for states, options in cond]  # fmt: skip


def combine(*conds):
    """Conditioning (Combine): the entries side by side."""
    return [entry for cond in conds for entry in cond]


def spans(entries):
    return [entry.span for entry in entries]


@pytest.fixture
def mapped(tiny):
    """A CONDITIONING of ours."""
    t = vlm.select_layers(tiny("qwen3_vl", 2).encode("a red house"), "-1")
    return write_entries([Entry(t, {"pooled_output": None})])


# ---- reading and writing


def test_what_is_read_is_written_again():
    hooks = object()
    cond = conditioning(hooks=hooks, strength=0.5)
    (entry,) = read_entries(cond, "conditioning")
    assert torch.equal(entry.tokens.states, cond[0][0])
    assert entry.tokens.token_map is None
    assert entry.span == (0.0, 1.0)
    (written,) = write_entries([entry])
    assert torch.equal(written[0], cond[0][0])
    assert written[1] == {"pooled_output": None, "hooks": hooks, "strength": 0.5}
    assert written[1]["hooks"] is hooks
    assert isinstance(written, list)


def test_the_map_travels_in_the_options(mapped):
    (entry,) = read_entries(mapped, "conditioning")
    assert entry.tokens.token_map["n"] == entry.tokens.n
    assert "vlm_tokens" not in entry.options
    (again,) = write_entries([entry])
    assert again[1]["vlm_tokens"] == mapped[0][1]["vlm_tokens"]


def test_nothing_shared_is_changed(mapped):
    before = copy.deepcopy(mapped[0][1])
    states = mapped[0][0].clone()
    entries = read_entries(mapped, "conditioning")
    entries[0].within(0.2, 0.4)
    written = write_entries(map_tokens(entries, lambda t: t.with_states(t.states * 2)))
    written[0][1]["start_percent"] = 0.5
    write_entries(entries)[0][1]["start_percent"] = 0.5
    assert entries[0].options == {"pooled_output": None}
    assert mapped[0][1] == before
    assert torch.equal(mapped[0][0], states)
    assert torch.equal(written[0][0], states * 2)


def test_output_is_float32_whatever_the_model_ran_in():
    entry = Entry(Tokens(torch.randn(1, 3, 8).bfloat16()), {})
    ((states, options),) = write_entries([entry])
    assert (states.dtype, states.device.type, options) == (torch.float32, "cpu", {})


def test_a_map_that_lost_its_tensor(mapped, caplog):
    shorter = [[mapped[0][0][:, :2], mapped[0][1]]]
    (entry,) = read_entries(shorter, "conditioning")
    assert entry.tokens.token_map is None
    assert "vlm_tokens" not in entry.options
    longer = [[torch.cat([mapped[0][0]] * 2, dim=1), mapped[0][1]]]  # Conditioning (Concat)
    (entry,) = read_entries(longer, "conditioning")
    assert entry.tokens.token_map["role"][-1] == "unknown"
    assert "Concat" in caplog.text


@pytest.mark.parametrize("foreign", ["x", 3, {"n": 4}, {"version": 9}, [1], None])
def test_a_foreign_map_is_dropped(foreign):
    (entry,) = read_entries(conditioning(vlm_tokens=foreign), "conditioning")
    assert entry.tokens.token_map is None
    assert "vlm_tokens" not in write_entries([entry])[0][1]


def test_a_batch_of_rows_stays_a_batch():
    cond = [[torch.randn(3, 4, 8), {}]]
    assert read_entries(cond, "conditioning")[0].tokens.batch == 3
    assert write_entries(read_entries(cond, "conditioning"))[0][0].shape == (3, 4, 8)


# ---- what is no CONDITIONING


def test_hidden_states_where_conditioning_is_expected(tiny):
    h = tiny("qwen3_vl", 2).encode("a")
    with pytest.raises(TypeError, match="text needs CONDITIONING.*hidden states.*`select_layers"):
        read_entries(h, "text")


@pytest.mark.parametrize("wrong", [None, "text", torch.zeros(1, 4, 8), {}, 3])
def test_something_else_where_conditioning_is_expected(wrong):
    with pytest.raises(TypeError, match="picture needs CONDITIONING"):
        read_entries(wrong, "picture")


def test_names_of_sockets_are_told_in_a_line():
    with pytest.raises(TypeError) as error:
        read_entries(None, "a\rb", takes="x" * 5000)
    assert "\r" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    "entry",
    [torch.zeros(1, 4, 8), [torch.zeros(1, 4, 8)], [None, {}], [torch.zeros(1, 4, 8), None], "x"],
)
def test_entries_that_are_none(entry):
    with pytest.raises(TypeError, match="picture needs CONDITIONING"):
        read_entries([entry], "picture")


def test_empty_or_of_the_wrong_shape():
    with pytest.raises(ValueError, match="picture is an empty CONDITIONING"):
        read_entries([], "picture")
    with pytest.raises(ValueError, match=r"picture: the tensor is \[4, 8\]"):
        read_entries([[torch.zeros(4, 8), {}]], "picture")
    with pytest.raises(ValueError):
        read_entries([[torch.zeros(1, 0, 8), {}]], "picture")


# ---- ranges of the schedule


def test_a_range_within_a_range():
    (entry,) = read_entries(set_range(conditioning(), 0.2, 0.8), "conditioning")
    assert entry.span == (0.2, 0.8)
    assert entry.within(0.0, 1.0) is entry
    assert entry.within(0.5, 1.0).span == (0.5, 0.8)
    assert entry.within(0.0, 0.3).span == (0.2, 0.3)
    assert entry.within(0.8, 1.0) is None
    assert entry.within(0.0, 0.2) is None
    assert entry.within(0.5, 1.0).options["pooled_output"] is None


# ---- pairs


def test_a_single_entry_goes_with_all():
    text = read_entries(combine(set_range(conditioning(seed=1), 0, 0.5),
                                set_range(conditioning(seed=2), 0.5, 1)), "text")  # fmt: skip
    (picture,) = read_entries(conditioning(seed=3), "picture")
    pairs = pair(text, [picture])
    assert spans(a for a, _ in pairs) == [(0, 0.5), (0.5, 1)]
    assert all(b is picture for _, b in pairs)
    pairs = pair([picture], [text[0]])
    assert [(a.span, b.span) for a, b in pairs] == [((0.0, 1.0), (0, 0.5))]


def test_a_single_text_with_combined_pictures():
    (text,) = read_entries(conditioning(seed=1, who="text"), "text")
    pictures = read_entries(combine(conditioning(seed=2), conditioning(seed=3)), "picture")
    pairs = pair([text], pictures)
    assert [b for _, b in pairs] == pictures
    assert all(a.options["who"] == "text" and a.span == (0.0, 1.0) for a, _ in pairs)


def test_ranges_meet_where_they_overlap():
    text = read_entries(combine(set_range(conditioning(who="a"), 0, 0.6),
                                set_range(conditioning(who="b"), 0.6, 1)), "text")  # fmt: skip
    pictures = read_entries(combine(set_range(conditioning(who="x"), 0, 0.3),
                                    set_range(conditioning(who="y"), 0.3, 1)), "p")  # fmt: skip
    pairs = pair(text, pictures)
    assert [(a.options["who"], b.options["who"], a.span) for a, b in pairs] == [
        ("a", "x", (0, 0.3)), ("a", "y", (0.3, 0.6)), ("b", "y", (0.6, 1)),
    ]  # fmt: skip


def test_a_single_text_is_cut_by_the_pictures_ranges():
    (text,) = read_entries(conditioning(who="text"), "text")
    pictures = read_entries(combine(set_range(conditioning(), 0, 0.4),
                                    set_range(conditioning(), 0.4, 1)), "p")  # fmt: skip
    assert spans(a for a, _ in pair([text], pictures)) == [(0, 0.4), (0.4, 1)]


def test_no_part_of_the_text_is_lost_in_a_gap():
    """Pictures for the first half only: the second half still has its text, or it is an error."""
    (text,) = read_entries(conditioning(who="text"), "text")
    pictures = read_entries(combine(set_range(conditioning(), 0, 0.2),
                                    set_range(conditioning(), 0.2, 0.5)), "p")  # fmt: skip
    try:
        pairs = pair([text], pictures)
    except ValueError as error:
        assert "50%" in str(error)
    else:
        assert max(a.span[1] for a, _ in pairs) == 1.0


def test_an_entry_without_a_counterpart():
    text = read_entries(combine(set_range(conditioning(), 0, 0.2),
                                set_range(conditioning(), 0.8, 1)), "text")  # fmt: skip
    pictures = read_entries(combine(set_range(conditioning(), 0, 0.1),
                                    set_range(conditioning(), 0.1, 0.5)), "p")  # fmt: skip
    with pytest.raises(ValueError, match="80% to 100%.*no counterpart"):
        pair(text, pictures)
