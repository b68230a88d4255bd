"""Whether a conditioning fits a model, in the words of section 7 of the design."""

import pytest
import torch

import vlm
from vlm.conditioning.check import Finding, Needs, check, misfit, notes_of
from vlm.conditioning.entries import Entry
from vlm.tokens.tokens import Tokens


def entries(width, n=4, value=0.0, **options):
    return [Entry(Tokens(torch.full((1, n, width), value)), options)]


def texts(findings):
    return " ".join(finding.text for finding in findings)


FITTING = {"z-image": 2560, "flux2-klein-4b": 7680, "flux2-klein-9b": 12288, "krea2": 30720,
           "qwen-image": 3584, "qwen-image-2.1": 4096}  # fmt: skip


@pytest.mark.parametrize("target", FITTING)
def test_what_fits_has_no_findings(target):
    assert check(entries(FITTING[target], 512), Needs.of(target)) == []


def test_no_known_width_fits_any():
    assert check(entries(17), Needs("some model")) == []
    assert check(entries(17), Needs.of("chat")) == []


def test_an_unknown_target():
    with pytest.raises(ValueError, match="no target 'sd15'"):
        Needs.of("sd15")


def test_flux_needs_a_connector_and_a_pooled_vector():
    found = check(entries(3584), Needs.of("flux1"))
    assert found[0].stops
    assert "This conditioning is 3584 wide, FLUX.1 reads 4096. Put a connector" in found[0].text
    assert [f.stops for f in found] == [True, False]
    assert "pooled" in found[1].text
    found = check(entries(4096, pooled_output=torch.zeros(1, 77)), Needs.of("flux1"))
    assert [f.stops for f in found] == [True]
    assert "77 wide, FLUX.1 reads 768" in found[0].text
    for width in (768, 1280):
        fits = entries(4096, pooled_output=torch.zeros(1, width))
        assert check(fits, Needs.of("flux1")) == []


@pytest.mark.parametrize(
    ("width", "target", "layers"),
    [(2560, "flux2-klein-4b", 3), (4096, "flux2-klein-9b", 3), (2560, "krea2", 12)],
)
def test_one_layer_where_several_are_read(width, target, layers):
    (found,) = check(entries(width, 512), Needs.of(target))
    assert found.stops
    assert f"concatenates {layers} layers" in found.text
    assert "`target`" in found.text
    assert "`layers`" in found.text


@pytest.mark.parametrize(("width", "target"), [(64, "z-image"), (1280, "z-image"), (64, "krea2"),
                                               (1280, "flux2-klein-4b"), (1792, "qwen-image"),
                                               (7680, "z-image")])  # fmt: skip
def test_a_width_that_no_layers_make_is_not_said_to_be_concatenated(width, target):
    (found,) = check(entries(width, 512), Needs.of(target))
    assert "concatenates" not in found.text
    assert f"{width} wide" in found.text
    assert "Load the VLM" in found.text


def test_a_width_that_fits_another_model_says_which():
    (found,) = check(entries(7680), Needs.of("z-image"))
    assert "FLUX.2 klein 4B" in found.text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf(value):
    (found,) = check(entries(2560, value=value), Needs.of("z-image"))
    assert found.stops
    assert "NaN or Inf" in found.text
    assert "bfloat16" in found.text


def test_too_few_tokens_for_klein():
    (found,) = check(entries(7680, 100), Needs.of("flux2-klein-4b"))
    assert not found.stops
    assert "100 tokens" in found.text
    assert "512" in found.text
    assert check(entries(7680, 600), Needs.of("flux2-klein-4b")) == []


def test_findings_of_several_entries_come_once_and_the_worst_first():
    both = entries(7680, 100) + entries(7680, 100) + entries(2560, 512) + entries(7680, 90)
    found = check(both, Needs.of("flux2-klein-4b"))
    assert [f.stops for f in found] == [True, False, False]
    assert all(isinstance(f, Finding) for f in found)


def test_every_finding_is_whole_sentences():
    worst = entries(64, 3, value=float("nan"), pooled_output=torch.zeros(1, 5))
    for target in vlm.TARGETS:
        for finding in check(worst + entries(4096), Needs.of(target)):
            assert finding.text[0].isupper()
            assert finding.text.endswith(".")
            assert ". " in finding.text


@pytest.mark.parametrize("target", ["flux2-klein-4b", "krea2"])
def test_a_whole_encoding_passes_its_own_check(tiny, target):
    t = vlm.select_layers(tiny().encode("a house", target=target))
    row = vlm.TARGETS[target]
    needs = Needs(row.title, 64 * len(row.layers), row.pooled, row.pad_to)
    assert check([Entry(t, {})], needs) == []


# ---- bounds


def test_more_tokens_than_a_model_was_trained_with():
    (found,) = check(entries(30720, 600), Needs.of("krea2"))
    assert not found.stops
    assert "at most 512 tokens, these are 600" in found.text and "`max_pixels`" in found.text
    assert check(entries(30720, 512), Needs.of("krea2")) == []


def test_default_budgets_stay_below_the_most_tokens(tiny, picture):
    model = tiny()
    for target, pictures in (("krea2", 3), ("krea2-edit", 3), ("z-image", 1), ("flux3-klein", 7)):
        h = model.encode("a red house " * 10, [picture(2000, 2000)] * pictures, target=target)
        assert notes_of(h, "") == [vlm.TARGETS[target].about_pictures] * (target == "flux3-klein")


SHAPES = ((512, 768), (2000, 2000), (64, 64), (300, 1920), (1777, 333))
BOUNDED = [name for name, row in vlm.TARGETS.items() if row.most_tokens]
# As many pictures as a row takes; those that its text encoder does not see natively have no bound
# of their own, and these many fit.
MOST = {"z-image": 1, "flux3-klein": 7, "krea2": 3, "hunyuan-image": 1}


@pytest.mark.slow
@pytest.mark.parametrize("target", BOUNDED)
@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_of_any_shape_stay_below_the_most_tokens(tiny, picture, target, shape):
    row, model = vlm.TARGETS[target], tiny()
    most = row.most_pictures or MOST[target]
    for pictures in range(1, most + 1):
        h = model.encode("a red house", [picture(*shape)] * pictures, target=target)
        assert not [note for note in notes_of(h, "") if "at most" in note]


@pytest.mark.parametrize("target", [name for name in MOST if name in BOUNDED])
def test_more_pictures_than_fit_are_warned_of(tiny, picture, target):
    pictures = [picture(2000, 2000)] * (MOST[target] + 1)
    notes = " ".join(notes_of(tiny().encode("a", pictures, target=target), ""))
    assert f"at most {vlm.TARGETS[target].most_tokens} tokens" in notes


@pytest.mark.parametrize("target", [n for n, row in vlm.TARGETS.items() if row.most_pictures])
def test_more_pictures_than_a_model_takes(tiny, picture, target):
    row, model = vlm.TARGETS[target], tiny()
    given = [picture(32, 32)] * row.most_pictures
    assert model.encode("a", given, target=target).has_images
    said = f"{row.title} takes at most {row.most_pictures} pictures, {len(given) + 1} were given"
    with pytest.raises(ValueError, match=said):
        model.encode("a", [*given, picture(32, 32)], target=target)


def test_a_vlm_of_another_width_is_told_which_one_fits(tiny):
    t = Tokens(torch.zeros(1, 4, 12 * 4096))
    said = misfit(t, vlm.TARGETS["krea2"])
    assert "49152 wide, Krea 2 reads 30720" in said and "(Qwen3-VL-4B)" in said
    for name, row in vlm.TARGETS.items():
        if row.width and not row.pooled:
            assert f"({row.encoder}" in misfit(Tokens(torch.zeros(1, 4, 17)), row), name


def test_what_is_said_before_a_prompt_is_read(tiny, picture):
    model = tiny()
    (note,) = notes_of(model.encode("a red house " * 300, target="krea2"), "")
    assert "Krea 2 was trained with at most 512 tokens" in note
    pictures = [picture(64, 64)]
    (note,) = notes_of(model.encode("a", pictures, target="flux3-klein"), "a")
    assert "experiment" in note
    for words in ('a sign "open"', "a sign “open”", "‘开’"):
        (note,) = notes_of(model.encode(words, target="hunyuan-image"), words)
        assert "ByT5" in note
    for words in ("it's a house", 'five " inches', ""):
        assert notes_of(model.encode(words, target="hunyuan-image"), words) == []
    assert notes_of(model.encode("a", target="chat"), "a") == []


def test_a_width_that_is_not_the_targets(tiny):
    t = vlm.select_layers(tiny().encode("a", target="z-image"))
    assert "64 wide, Z-Image reads 2560" in misfit(t, vlm.TARGETS["z-image"])
    assert misfit(Tokens(torch.zeros(1, 1, 2560)), vlm.TARGETS["z-image"]) == ""
    assert misfit(t, vlm.TARGETS["chat"]) == ""


def test_slots_want_a_reference_latent_each(tiny, picture):
    h = tiny("qwen3_vl", 2).encode("a", [picture(64, 64)] * 2, target="qwen-image-2.1-edit")
    t, needs = vlm.select_layers(h), Needs("Qwen-Image 2.1", 64)
    for latents, said in ((0, "has 0"), (1, "has 1"), (3, "has 3")):
        options = {"reference_latents": [torch.zeros(1)] * latents} if latents else {}
        (found,) = check([Entry(t, options)], needs)
        assert found.stops and "tokens of 2 pictures" in found.text and said in found.text
    assert check([Entry(t, {"reference_latents": [torch.zeros(1)] * 2})], needs) == []
