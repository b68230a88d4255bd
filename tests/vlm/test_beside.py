"""What native encoders write beside their tensor stays right behind whatever changes the tokens."""

import pytest
import torch

import vlm
from vlm.conditioning.entries import Entry, map_tokens, read_entries, write_entries
from vlm.conditioning.file import load_conditioning, save_conditioning
from vlm.conditioning.handover import hand_over
from vlm.tokens.beside import MASK, SLOTS, TAGS

MARKERS = ("image", "vision_marker")


@pytest.fixture
def klein(tiny):
    """Tokens of FLUX.2 klein: 512, of which few are words."""
    return vlm.select_layers(tiny().encode("a red house", target="flux2-klein-4b"))


@pytest.fixture
def h3(tiny, picture):
    """Tokens of MiniMax H3: two pictures and words."""
    images = [picture(96, 64, 0), picture(64, 96, 1)]
    return vlm.select_layers(
        tiny("qwen3_vl", 51).encode("a red house", images, target="minimax-h3")
    )


@pytest.fixture
def second(tiny, picture):
    """Hidden states for Qwen-Image 2.1 with reference latents: two pictures and words."""
    images = [picture(96, 64, 0), picture(64, 96, 1)]
    model = tiny("qwen3_vl", 2)
    return model.encode("a red house", images, target="qwen-image-2.1-edit")


def right_mask(t):
    return torch.tensor([[int(role != "pad") for role in t.token_map["role"]]])


def right_tags(t):
    return torch.tensor([int(role not in MARKERS) for role in t.token_map["role"]])


def starts(t):
    """Places behind the first marker of each picture."""
    columns = zip(t.token_map["role"], t.token_map["image"], strict=True)
    seen: dict[int, int] = {}
    for at, (role, number) in enumerate(columns):
        if role == "vision_marker":
            seen.setdefault(number, at + 1)
    return list(seen.values())


# ---- as the row says


def test_kleins_mask_covers_words_and_not_pads(klein):
    assert list(klein.beside) == [MASK]
    assert torch.equal(klein.beside[MASK], right_mask(klein))
    assert klein.beside[MASK].dtype == torch.int64 and 0 < klein.beside[MASK].sum() < 100


def test_a_mask_without_pads_is_left_out_where_the_encoder_leaves_it_out(tiny):
    model = tiny()
    assert vlm.select_layers(model.encode("a", target="krea2")).beside == {}
    padded = vlm.select_layers(model.encode("a", target="krea2", padding="left"))
    assert padded.beside == {}  # its pads stand before what is dropped
    assert list(vlm.select_layers(model.encode("a", target="z-image")).beside) == [MASK]
    assert vlm.select_layers(model.encode("a", target="flux3-klein")).beside == {}


def test_what_is_none_is_written_as_none(tiny):
    model = tiny("qwen3_vl", 2)
    assert model.encode("a", target="qwen-image").options == {"pooled_output": None}
    assert model.encode("a", target="flux1").options == {}


def test_slots_stand_behind_each_pictures_first_marker(second):
    t = vlm.select_layers(second)
    assert "image" not in t.token_map["role"]
    assert t.beside == {SLOTS: starts(t)} and len(starts(t)) == 2


def test_without_latents_the_pictures_stay(tiny, picture):
    h = tiny("qwen3_vl", 2).encode("a", [picture(64, 64)], target="qwen-image-2.1")
    t = vlm.select_layers(h)
    assert t.token_map["role"].count("image") == 1024 and t.beside == {}


# ---- filters


@pytest.mark.parametrize("keep", ["text", "prompt", ("pad",), ("text", "pad"), "all"])
def test_a_filter_cuts_the_mask_along(klein, keep):
    kept = vlm.filter_tokens(klein, keep=keep)
    assert torch.equal(kept.beside[MASK], right_mask(kept))


@pytest.mark.parametrize("keep", ["text", "image", "image+markers", "prompt"])
def test_a_filter_cuts_the_tags_along(h3, keep):
    kept = vlm.filter_tokens(h3, keep=keep)
    assert torch.equal(kept.beside[TAGS], right_tags(kept))


def test_slots_move_with_what_is_cut_before_or_behind_them(second):
    whole = vlm.select_layers(second)
    first, last = whole.beside[SLOTS]
    assert vlm.filter_tokens(whole, "all", drop_first=2).beside[SLOTS] == [first - 2, last - 2]
    some = vlm.filter_tokens(whole, keep=("text", "vision_marker"))
    assert some.beside[SLOTS] == starts(some)
    assert vlm.filter_tokens(whole, keep="prompt").beside[SLOTS] == [0, 0]


def test_a_filter_before_the_gate_does_the_same(second):
    for keep in ("text", "prompt", ("text", "vision_marker"), ("vision_marker", "template")):
        before = vlm.select_layers(vlm.filter_tokens(second, keep=keep))
        behind = vlm.filter_tokens(vlm.select_layers(second), keep=keep)
        assert torch.equal(before.states, behind.states)
        assert before.beside == behind.beside


# ---- pools, masks, norms, blends


def test_a_pool_keeps_one_tag_for_each_mean(h3):
    pooled = vlm.pool_tokens(h3, tokens=4)
    assert pooled.n < h3.n
    assert torch.equal(pooled.beside[TAGS], right_tags(pooled))


def test_a_pool_before_the_gate_does_the_same(tiny, picture):
    h = tiny("qwen3_vl", 51).encode("a", [picture(96, 96)], target="minimax-h3")
    t = vlm.select_layers(vlm.pool_tokens(h, tokens=2))
    assert torch.equal(t.beside[TAGS], right_tags(t))


def test_what_changes_values_alone_changes_nothing_beside(klein, h3):
    assert vlm.apply_mask(h3, torch.full((3, 2), 0.5), image=0).beside is h3.beside
    stats = vlm.measure_stats(klein)
    assert vlm.normalize(klein, stats, mode="global").beside is klein.beside
    assert vlm.mask_outliers(klein, stats).beside is klein.beside
    delta = vlm.style_delta(klein, klein, unit_std=False)
    assert vlm.add_style(klein, delta, 0.3).beside is klein.beside


@pytest.mark.parametrize("method", ["pool", "interpolate"])
def test_a_blend_has_the_texts(tiny, picture, klein, method):
    image = tiny().encode("a", [picture(96, 96)], target="flux2-klein-4b")
    mixed = vlm.blend(vlm.filter_tokens(vlm.select_layers(image), "image"), klein, method=method)
    assert mixed.n == klein.n and mixed.beside is klein.beside


def test_a_cut_blend_has_as_much_of_the_texts(klein):
    short = vlm.filter_tokens(klein, keep="prompt")
    mixed = vlm.blend(short, klein, method="truncate")
    assert torch.equal(mixed.beside[MASK], klein.beside[MASK][:, : short.n])
    whole = vlm.blend(short, klein, 1.0, method="truncate")
    assert whole.beside is short.beside


def test_joined_tokens_have_both_sides(klein, h3, second):
    words = vlm.filter_tokens(klein, keep="prompt")
    both = vlm.blend(klein, words, method="concat")
    assert torch.equal(both.beside[MASK], right_mask(both))
    plain = vlm.Tokens(klein.states[:, :3])
    assert torch.equal(
        vlm.blend(plain, klein, method="concat").beside[MASK],
        torch.cat([torch.ones(1, 3, dtype=torch.int64), klein.beside[MASK]], dim=1),
    )
    twice = vlm.blend(h3, h3, method="concat")
    assert torch.equal(twice.beside[TAGS], right_tags(twice))
    t = vlm.select_layers(second)
    twice = vlm.blend(t, t, method="concat")
    assert twice.beside[SLOTS] == [*t.beside[SLOTS], *(at + t.n for at in t.beside[SLOTS])]


def test_a_batch_of_one_mask_joins_a_batch_of_two(klein):
    two = vlm.Tokens(klein.states.repeat(2, 1, 1), None, {MASK: klein.beside[MASK].repeat(2, 1)})
    joined = vlm.blend(two, klein, method="concat")
    assert joined.beside[MASK].shape == (2, 1024)


# ---- on the wire and on disk


def options(entry):
    (written,) = write_entries([entry])
    return written[1]


def test_the_wire_has_it_among_the_options_and_back(klein):
    written = write_entries([Entry(klein, {"pooled_output": None})])
    assert torch.equal(written[0][1][MASK], klein.beside[MASK])
    (entry,) = read_entries(written)
    assert MASK not in entry.options and torch.equal(entry.tokens.beside[MASK], right_mask(klein))
    (cut,) = write_entries(map_tokens([entry], lambda t: vlm.filter_tokens(t, keep="text")))
    assert cut[1][MASK].shape == (1, cut[0].shape[1])


def test_what_belongs_to_other_tokens_is_dropped(klein):
    states = klein.states[:, :5]
    stale = {MASK: klein.beside[MASK], SLOTS: [2, 6], TAGS: torch.ones(4)}
    assert set(options(Entry(vlm.Tokens(states), stale))) == set()
    fits = {MASK: torch.ones(1, 5), SLOTS: [2, 5], TAGS: torch.ones(5)}
    assert set(options(Entry(vlm.Tokens(states), fits))) == {MASK, SLOTS, TAGS}


def test_a_file_has_it(tmp_path, klein, h3, second):
    entries = [Entry(t, {"guidance": 1.0}) for t in (klein, h3, vlm.select_layers(second))]
    save_conditioning(entries, tmp_path / "c.safetensors")
    for saved, loaded in zip(entries, load_conditioning(tmp_path / "c.safetensors"), strict=True):
        assert saved.options == loaded.options
        assert saved.tokens.beside.keys() == loaded.tokens.beside.keys() != set()
        for key, value in saved.tokens.beside.items():
            found = loaded.tokens.beside[key]
            assert found == value if key == SLOTS else torch.equal(found, value)


def test_a_hand_over_leaves_each_side_its_own(klein, h3):
    early, late = (Entry(t, {}) for t in (klein, h3))
    first, then = hand_over([early], [late], 0.5)
    assert first.tokens.beside is klein.beside and then.tokens.beside is h3.beside
