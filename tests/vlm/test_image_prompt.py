"""Image prompt: the library's own steps, strengths that vanish at 0, times, masks, refusals."""

import numpy as np
import pytest
import torch

import vlm
from vlm.conditioning.check import Needs
from vlm.conditioning.entries import Entry, read_entries, write_entries
from vlm.conditioning.image_prompt import image_prompt
from vlm.conditioning.image_prompt_blended import blend_alphas
from vlm.conditioning.image_prompt_inside import shares
from vlm.conditioning.influence import image_influence
from vlm.pictures.reference import PictureReference, crop_to_mask, views_of
from vlm.tokens.tokens import Tokens

TEXT = "a red house by the river"


@pytest.fixture
def v(tiny):
    return tiny("qwen3_vl")


@pytest.fixture
def image(picture):
    def draw(height=96, width=128, seed=1):
        pixels = np.asarray(picture(height, width, seed), dtype=np.float32) / 255
        return torch.from_numpy(pixels)

    return draw


def own(v, target="z-image"):
    """The words' own conditioning, as on a wire."""
    states = v.encode(TEXT, target=target)
    return read_entries(write_entries([Entry(vlm.select_layers(states), states.options)]))


def by_hand(v, picture, words, alpha=0.3, keep="all", pool=None, weights=None):
    """One picture's tokens blended into the words, one function of the library after another."""
    v.prefix_cache.clear()  # so that the same kernels see the same shapes
    states = v.encode(TEXT, [picture], target="z-image")
    states = states if weights is None else vlm.apply_mask(states, weights)
    states = states if pool is None else vlm.pool_tokens(states, pool)
    tokens = vlm.select_layers(states)
    tokens = vlm.filter_tokens(Tokens(tokens.states.float(), tokens.token_map), keep)
    tokens = vlm.normalize(tokens, vlm.measure_stats([words]))
    return vlm.blend(tokens, words, alpha)


def made(v, *pictures, target="z-image", **more):
    v.prefix_cache.clear()
    return image_prompt(TEXT, pictures, target=target, model=v, **more)


def states_of(entries):
    return entries[0].tokens.states


# --- blended into the words -----------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["all", "picture", "words", "pooled"])
def test_it_is_the_separate_steps_bit_for_bit(v, image, keep):
    words = own(v)
    reference = PictureReference(image(), keep=keep, pool_size=4)
    (entry,) = made(v, reference, words=lambda: words).entries
    name = {"picture": "image", "pooled": "image", "words": "text"}.get(keep, keep)
    pool = 4 if keep == "pooled" else None
    want = by_hand(v, image(), words[0].tokens, keep=name, pool=pool)
    assert torch.equal(entry.tokens.states, want.states)
    assert not torch.equal(want.states, words[0].tokens.states)


def test_strength_scales_the_usual_alpha(v, image):
    words = own(v)
    (entry,) = made(v, PictureReference(image(), 2.0), words=lambda: words).entries
    want = by_hand(v, image(), words[0].tokens, alpha=0.6)
    assert torch.equal(entry.tokens.states, want.states)


@pytest.mark.parametrize("target", ["z-image", "krea2"])
def test_strength_0_is_the_words_alone_bit_for_bit(v, image, target):
    gone = PictureReference(image(), 0.0, 0.2, 0.6)
    result = made(v, gone, target=target)
    (entry,) = result.entries
    v.prefix_cache.clear()
    assert torch.equal(entry.tokens.states, states_of(own(v, target)))
    assert entry.span == (0.0, 1.0) and len(result.steps) == 1


def test_several_pictures_share_by_strength_not_by_place(v, image):
    words = own(v)
    one, other = PictureReference(image(seed=1)), PictureReference(image(64, 64, 2))
    there, back = (
        states_of(made(v, *order, words=lambda: words).entries)
        for order in ((one, other), (other, one))
    )
    assert torch.allclose(there, back, atol=1e-5 * there.abs().max())
    first, second = (
        by_hand(v, each.image, words[0].tokens, alpha=1.0).states for each in (one, other)
    )
    want = 0.255 * first + 0.255 * second + 0.49 * words[0].tokens.states
    assert torch.allclose(there, want, atol=1e-5 * there.abs().max())


@pytest.mark.parametrize("strengths", [(1.0,), (1.0, 2.0), (3.0, 3.0, 3.0), (0.5, 3.0, 1.0)])
def test_blends_leave_the_words_what_single_blends_would(strengths):
    left, shares = 1.0, []
    for alpha in blend_alphas(strengths):
        assert 0 < alpha < 1
        shares = [share * (1 - alpha) for share in shares] + [alpha]
        left *= 1 - alpha
    assert left == pytest.approx(np.prod([1 - 0.3 * each for each in strengths]))
    ratios = [share / strength for share, strength in zip(shares, strengths, strict=True)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_times_make_ranges_in_each_of_which_the_right_pictures_count(v, image):
    words = own(v)
    early = PictureReference(image(seed=1), end=0.5)
    late = PictureReference(image(64, 64, 2), start=0.25)
    entries = made(v, early, late, words=lambda: words).entries
    assert [entry.span for entry in entries] == [(0.0, 0.25), (0.25, 0.5), (0.5, 1.0)]
    alone = by_hand(v, early.image, words[0].tokens).states
    assert torch.equal(entries[0].tokens.states, alone)
    alone = by_hand(v, late.image, words[0].tokens).states
    assert torch.allclose(entries[2].tokens.states, alone, atol=1e-5 * alone.abs().max())
    assert not torch.equal(entries[1].tokens.states, entries[2].tokens.states)
    (before, after) = made(v, PictureReference(image(), start=0.75), words=lambda: words).entries
    assert torch.equal(before.tokens.states, words[0].tokens.states)
    assert (before.span, after.span) == ((0.0, 0.75), (0.75, 1.0))


# --- masks and detail -----------------------------------------------------------------------------


def test_a_mask_crops_to_its_box(v, image):
    shown, mask = image(), torch.zeros(48, 64)
    mask[10:40, 4:50] = 0.5
    box = crop_to_mask(shown, mask)
    assert torch.equal(box, shown[20:80, 8:100])
    words = own(v)
    (entry,) = made(v, PictureReference(shown, mask=mask), words=lambda: words).entries
    assert torch.equal(entry.tokens.states, by_hand(v, box, words[0].tokens).states)


def test_what_is_dark_beside_the_brightest_is_outside_of_the_box(image):
    mask = torch.full((48, 64), 0.02)  # as a segmentation leaves it
    mask[10:40, 4:50] = 0.9
    mask[5:10, 4:50] = 0.3
    assert torch.equal(crop_to_mask(image(), mask), image()[20:80, 8:100])


def test_a_mask_weighs_the_tokens(v, image):
    shown, mask, words = image(), torch.zeros(96, 128), own(v)
    mask[:, :64] = 1
    reference = PictureReference(shown, mask=mask, mask_use="weight")
    (entry,) = made(v, reference, words=lambda: words).entries
    grid = v.encode(TEXT, [shown], target="z-image").token_map["grids"][0]
    weights = vlm.resample_mask(mask, grid["rows"], grid["cols"])
    want = by_hand(v, shown, words[0].tokens, weights=weights)
    assert torch.equal(entry.tokens.states, want.states)


def test_tiles_are_the_picture_and_its_quarters(v, image):
    shown = image(97, 128)
    mask = torch.rand(97, 128, generator=torch.Generator().manual_seed(0))
    whole, *quarters = views_of(PictureReference(shown, mask=mask, mask_use="weight", tiles=True))
    assert torch.equal(whole.image, shown) and torch.equal(whole.weights, mask)
    halves = [torch.cat([quarters[i].image, quarters[i + 1].image], dim=1) for i in (0, 2)]
    assert torch.equal(torch.cat(halves), shown)
    halves = [torch.cat([quarters[i].weights, quarters[i + 1].weights], dim=1) for i in (0, 2)]
    assert torch.equal(torch.cat(halves), mask)
    (entry,) = made(v, PictureReference(shown, tiles=True)).entries
    assert not torch.equal(entry.tokens.states, states_of(made(v, PictureReference(shown)).entries))


def test_a_budget_is_the_models(v, image):
    words = own(v)
    reference = PictureReference(image(256, 256), max_pixels=64 * 64)
    (entry,) = made(v, reference, words=lambda: words).entries
    states = v.encode(TEXT, [image(256, 256)], target="z-image", max_pixels=64 * 64)
    want = vlm.filter_tokens(vlm.select_layers(states), "all")
    want = vlm.normalize(want, vlm.measure_stats([words[0].tokens]))
    want = vlm.blend(want, words[0].tokens, 0.3).states
    assert torch.allclose(entry.tokens.states, want, atol=1e-5 * want.abs().max())


# --- in the prompt --------------------------------------------------------------------------------


def test_an_encoder_that_sees_has_the_picture_in_its_prompt(v, image):
    (entry,) = made(v, PictureReference(image()), target="krea2").entries
    v.prefix_cache.clear()
    want = vlm.select_layers(v.encode(TEXT, [image()], target="krea2"))
    assert torch.equal(entry.tokens.states, want.states.float())
    assert entry.tokens.token_map == want.token_map


@pytest.mark.parametrize(
    ("strengths", "want"),
    [
        ([1.0], [(1.0, [1])]),
        ([2.5, 1.0], [(1.0, [1, 2])]),
        ([0.25], [(0.25, [1]), (0.75, [])]),
        ([0.25, 1.0], [(0.25, [1, 2]), (0.75, [2])]),
        ([0.5, 0.5], [(0.5, [1, 2]), (0.5, [])]),
        ([0.75, 0.25], [(0.25, [1, 2]), (0.5, [1]), (0.25, [])]),
    ],
)
def test_shares_sum_to_1_and_each_picture_has_its_strength(image, strengths, want):
    pictures = list(enumerate((PictureReference(image(), each) for each in strengths), 1))
    made = shares(pictures)
    assert [(share, [number for number, _ in counted]) for share, counted in made] == want
    for number, strength in enumerate(strengths, 1):
        own = sum(share for share, counted in made if number in dict(counted))
        assert own == min(strength, 1.0)


def prediction(entries):
    """What a stand-in of a diffusion model predicts, as ComfyUI weighs entries.

    It normalises tokens, as they all do first, and reads them by attention: neither is linear.
    """
    total, weights = 0.0, 0.0
    for entry in entries:
        x = entry.tokens.states[0]
        x = x / x.square().mean(dim=1, keepdim=True).sqrt()
        read = torch.softmax(x @ x[-1] / x.shape[1], dim=0) @ x
        share = entry.options.get("strength", 1.0)
        total, weights = total + share * read, weights + share
    assert weights == pytest.approx(1.0)
    return total / weights


@pytest.mark.slow
@pytest.mark.parametrize("target", ["z-image", "krea2", "qwen-image"])
def test_what_is_predicted_grows_with_strength_from_the_words_alone(v, image, tiny, target):
    v = tiny("qwen2_5_vl") if target == "qwen-image" else v

    def at(strength):
        return prediction(made(v, PictureReference(image(), strength), target=target).entries)

    words, whole = at(0.0), at(1.0)
    far = (whole - words).norm()
    assert far > 1e-3 * words.norm()
    near = [float((at(strength) - words).norm() / far) for strength in (1e-4, 1e-2, 0.5)]
    assert near[0] < 1e-3 and near[1] < 0.1 and near[0] < near[1] < near[2] < 1


def test_its_strength_above_1_is_image_influence(v, image):
    pictures = [PictureReference(image(), 0.5), PictureReference(image(64, 64, 2), 2.0)]
    result = made(v, *pictures, target="krea2")
    v.prefix_cache.clear()
    images = [each.image for each in pictures]
    (both,), _ = image_influence(v, TEXT, images, [1.0, 2.0], target="krea2", max_pixels=None)
    (one,), _ = image_influence(v, TEXT, images[1:], [2.0], target="krea2", max_pixels=None)
    assert torch.equal(states_of(result.entries), both.tokens.states)
    assert torch.allclose(result.entries[1].tokens.states, one.tokens.states, atol=1e-3)
    assert [entry.options["strength"] for entry in result.entries] == [0.5, 0.5]
    said = "; ".join(result.steps)
    assert "image influence 1, 2" in said and "0.5 of the prediction with picture 2" in said


def test_its_times_take_the_picture_out_of_the_prompt(v, image):
    before, after = made(v, PictureReference(image(), start=0.5), target="krea2").entries
    v.prefix_cache.clear()
    assert torch.equal(before.tokens.states, states_of(own(v, "krea2")))
    assert "image" in after.tokens.token_map["role"]


@pytest.mark.parametrize("keep", ["words", "picture", "pooled"])
def test_what_it_keeps(v, image, keep):
    (entry,) = made(v, PictureReference(image(), keep=keep, pool_size=4), target="krea2").entries
    whole = made(v, PictureReference(image()), target="krea2").entries[0].tokens
    want = {
        "words": lambda: vlm.filter_tokens(whole, "text"),
        "picture": lambda: vlm.blend(
            vlm.filter_tokens(whole, "image"), own(v, "krea2")[0].tokens, method="concat"
        ),
        "pooled": lambda: vlm.pool_tokens(whole, 4),
    }[keep]()
    assert torch.equal(entry.tokens.states, want.states)


def test_its_mask_weighs_that_pictures_tokens(v, image):
    mask = torch.zeros(64, 64)
    mask[:32] = 1
    pictures = [PictureReference(image()), PictureReference(image(64, 64, 2))]
    masked = [pictures[0], PictureReference(image(64, 64, 2), mask=mask, mask_use="weight")]
    plain, weighed = (
        made(v, *each, target="krea2").entries[0].tokens for each in (pictures, masked)
    )
    grid = plain.token_map["grids"][1]
    weights = vlm.resample_mask(mask, grid["rows"], grid["cols"])
    assert torch.equal(weighed.states, vlm.apply_mask(plain, weights, 1).states)


# --- what is refused ------------------------------------------------------------------------------


def test_without_pictures_it_is_the_words(v):
    result = made(v)
    v.prefix_cache.clear()
    assert torch.equal(states_of(result.entries), states_of(own(v)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strength": 3.5}, "strength of a picture reference is 3.5, expected 0"),
        ({"strength": -0.1}, "strength of a picture reference is -0.1, expected 0"),
        ({"strength": float("nan")}, "strength of a picture reference is nan"),
        ({"start": 0.5, "end": 0.5}, "expected a start_percent below end_percent"),
        ({"keep": "half"}, "keep of a picture reference is 'half', expected one of: all"),
        ({"mask_use": "burn"}, "mask_use of a picture reference is 'burn'"),
        ({"pool_size": 0}, "pool_size of a picture reference is 0"),
        ({"mask": torch.zeros(96, 128)}, "This mask marks nothing"),
        ({"mask": torch.ones(64, 64)}, "This mask is 64 x 64 pixels, its picture 128 x 96"),
        ({"mask": torch.full((96, 128), float("nan"))}, "holds NaN or Inf"),
        ({"mask": torch.ones(2, 96, 128)}, r"mask of a picture reference is \[height, width\]"),
    ],
)
def test_references_that_mean_nothing(image, change, words):
    with pytest.raises(ValueError, match=words):
        PictureReference(image(), **change)


def test_images_that_are_none():
    with pytest.raises(ValueError, match=r"image of a picture reference is .* this is \[2, 8, 8"):
        PictureReference(torch.zeros(2, 8, 8, 3))
    with pytest.raises(TypeError, match=r"floating point tensor .* this is torch.uint8"):
        PictureReference(torch.zeros(8, 8, 3, dtype=torch.uint8))
    with pytest.raises(TypeError, match="strength of a picture reference is a number, this is str"):
        PictureReference(torch.zeros(8, 8, 3), strength="1")
    with pytest.raises(ValueError, match="has no quarters"):
        PictureReference(torch.zeros(1, 8, 3), tiles=True)


def test_prompts_that_nothing_can_make(v, image, tiny):
    with pytest.raises(ValueError, match="neither `clip` nor `model`"):
        image_prompt(TEXT, target="z-image")
    with pytest.raises(TypeError, match="`words` of `image_prompt` is a list, expected a func"):
        image_prompt(TEXT, target="z-image", model=v, words=own(v))
    with pytest.raises(TypeError, match="makes a list of entries, this made int"):
        image_prompt(TEXT, target="z-image", words=int)
    with pytest.raises(ValueError, match="no model that sees them"):
        image_prompt(TEXT, [PictureReference(image())], target="z-image", words=lambda: own(v))
    with pytest.raises(
        ValueError, match=r"FLUX.1 reads no layer.*flux1-image-variation.*Connector Apply"
    ):
        made(v, target="flux1")
    mixed = [PictureReference(image()), PictureReference(image(), keep="words")]
    with pytest.raises(ValueError, match="sees all pictures in one prompt, and keep is all and wo"):
        made(v, *mixed, target="krea2")
    narrow = [Entry(Tokens(torch.zeros(1, 5, 48)), {})]
    with pytest.raises(ValueError, match="are 48 and 768 wide. Connect a model of the same width"):
        made(v, PictureReference(image(), 0.5), target="krea2", words=lambda: narrow)
    blind = tiny("qwen3")
    with pytest.raises(ValueError, match=r"reads text only, and there are pictures\. Leave it on"):
        made(blind, PictureReference(image()))


def test_widths_that_do_not_fit_before_a_picture_is_looked_at(v, image):
    narrow = [Entry(Tokens(torch.zeros(1, 5, 48)), {})]
    with pytest.raises(ValueError, match="conditioning is 48 wide, this model's would be 64"):
        made(v, PictureReference(image()), words=lambda: narrow)
    with pytest.raises(ValueError, match="is 64 wide, Z-Image reads 2560"):
        made(v, PictureReference(image()), needs=Needs("Z-Image", 2560))
    with pytest.raises(ValueError, match="wide, Krea 2 reads 30720"):
        made(v, PictureReference(image()), target="krea2", needs=Needs("Krea 2", 30720))
