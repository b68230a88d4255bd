"""Normalisation: golden values, an independent float64 transcription, and the robust scale."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vlm.token_map import new_map
from vlm.tokens.normalize import MODES, normalize, resolve_mode, robust_scale
from vlm.tokens.stats import Stats, measure_stats
from vlm.tokens.tokens import Tokens

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "reference.safetensors")
GOLDEN_CASES = {
    "normalize.global_61": {"mode": "global", "target_std": 61.0},
    "normalize.per_dim_clip3": {"mode": "per_dim"},
    "normalize.per_dim_noclip": {"mode": "per_dim", "clip_sigma": None},
    "normalize.hybrid_0.5": {"mode": "hybrid", "target_std": 61.0},
}
WIRE = "compares with a reference, and there is none. Give one as `stats`."


def close(got: torch.Tensor, want: object, tolerance: float = 1e-5) -> None:
    want = np.asarray(want, dtype=np.float64)
    assert tuple(got.shape) == want.shape
    error = np.abs(got.double().numpy() - want).max()
    assert error <= tolerance * max(1.0, np.abs(want).max())


def random_case(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 values of tokens, reference mean and reference std."""
    rng = np.random.default_rng(seed)
    width = shape[-1]
    x = rng.normal(size=shape) * rng.uniform(0.2, 30, width) + rng.normal(size=width) * 4
    mean, std = rng.normal(size=width) * 3, rng.uniform(0.5, 60, width)
    return tuple(a.astype(np.float32) for a in (x, mean, std))


def transcribed(x, mean, std, mode, clip=3.0, weight=0.5, target=None):
    """One row [N, D] after the published description, in float64."""
    x, mean, std = (np.asarray(a, dtype=np.float64) for a in (x, mean, std))
    if target is None:
        target = np.sqrt((std**2).mean() + ((mean - mean.mean()) ** 2).mean())
    as_global = x * (target / x.std(ddof=1))
    if mode == "global":
        return as_global
    z = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0, ddof=1), 1e-6)
    if clip:
        z = np.clip(z, -clip, clip)
    per_dim = z * std + mean
    return per_dim if mode == "per_dim" else weight * per_dim + (1 - weight) * as_global


def golden_stats() -> Stats:
    return Stats(mean=GOLDEN["stats.per_dim_mean"], std=GOLDEN["stats.per_dim_std"])


@pytest.mark.parametrize("key", GOLDEN_CASES)
def test_golden(key):
    out = normalize(Tokens(GOLDEN["vl"][None]), golden_stats(), sinks=True, **GOLDEN_CASES[key])
    close(out.states[0], GOLDEN[key])


def test_every_golden_key_of_this_group_is_checked():
    assert {key for key in GOLDEN if key.startswith("normalize.")} == set(GOLDEN_CASES)


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 40, 48), (3, 13, 7), (2, 200, 64)])
@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "global"},
        {"mode": "global", "target": 61.0},
        {"mode": "per_dim"},
        {"mode": "per_dim", "clip": 1.5},
        {"mode": "per_dim", "clip": 0},
        {"mode": "hybrid", "weight": 0.2},
        {"mode": "hybrid", "weight": 0.9, "clip": 2.0, "target": 5.0},
    ],
)
def test_fresh_cases_against_the_transcription(shape, settings):
    x, mean, std = random_case(sum(shape), *shape)
    names = {"clip": "clip_sigma", "target": "target_std"}
    arguments = {names.get(k, k): v for k, v in settings.items()}
    t = Tokens(torch.from_numpy(x.copy()))
    out = normalize(t, Stats(mean, std), **arguments)
    close(out.states, np.stack([transcribed(row, mean, std, **settings) for row in x]))
    assert torch.equal(t.states, torch.from_numpy(x))


def test_strength_goes_from_the_tokens_to_the_result():
    x, mean, std = random_case(0, 2, 20, 6)
    t, s = Tokens(torch.from_numpy(x)), Stats(mean, std)
    full = normalize(t, s, "per_dim").states
    part = normalize(t, s, "per_dim", strength=0.25).states
    close(part, 0.75 * x.astype(np.float64) + 0.25 * full.double().numpy())
    for mode in MODES:
        assert normalize(t, s, mode, strength=0) is t


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("mode", ["global", "per_dim", "hybrid", "robust"])
def test_dtype_stays_and_the_arithmetic_is_float32(dtype, mode):
    x, mean, std = random_case(1, 1, 300, 6)
    t = Tokens((torch.from_numpy(x) + 200).to(dtype), new_map(["text"] * 300))
    wide = Tokens(t.states.float())
    out = normalize(t, Stats(mean, std), mode)
    assert out.states.dtype == dtype and out.token_map is t.token_map
    assert torch.equal(out.states, normalize(wide, Stats(mean, std), mode).states.to(dtype))


def test_a_constant_dimension_lands_on_the_references_mean():
    x, mean, std = random_case(2, 1, 20, 4)
    x[..., 1] = 0.5
    out = normalize(Tokens(torch.from_numpy(x)), Stats(mean, std), "per_dim", clip_sigma=None)
    assert out.states.isfinite().all()
    assert out.states[0, :, 1].tolist() == pytest.approx([mean[1]] * 20)


def test_a_dimension_that_hardly_spreads_is_spread_like_the_reference():
    x, mean, std = random_case(2, 1, 50, 4)
    x[..., 1] = 1e-4 * (x[..., 1] - x[..., 1].mean()) / x[..., 1].std()
    out = normalize(Tokens(torch.from_numpy(x)), Stats(mean, std), "per_dim", clip_sigma=None)
    assert out.states[0, :, 1].std().item() == pytest.approx(std[1], rel=1e-3)


def test_auto_is_global_for_text_only_and_per_dim_else():
    x, mean, std = random_case(3, 1, 6, 4)
    s, states = Stats(mean, std), torch.from_numpy(x)
    text = Tokens(states, new_map(["system", "template", "text", "text", "thinking", "generated"]))
    marked = Tokens(states, new_map(["vision_marker"] + ["text"] * 5, [0] + [-1] * 5))
    image = Tokens(states, new_map(["image"] + ["text"] * 5, [0] + [-1] * 5))
    unknown = Tokens(states, new_map(["text"] * 5 + ["unknown"]))
    bare = Tokens(states)
    for t, mode in (
        (text, "global"),
        (marked, "global"),
        (image, "per_dim"),
        (unknown, "per_dim"),
        (bare, "per_dim"),
    ):
        assert resolve_mode(t, "auto") == mode
        assert torch.equal(normalize(t, s).states, normalize(t, s, mode).states)
    assert [resolve_mode(image, mode) for mode in MODES[1:]] == list(MODES[1:])


def massive_text(seed: int, n: int = 60, width: int = 256, batch: int = 1) -> torch.Tensor:
    """Text after Qwen3-4B's picture: std 7, three massive dimensions, mostly in the first token."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, n, width, generator=generator) * 7
    x[:, 0, [0, 4, 39]] += torch.tensor([5200.0, -3900.0, 2100.0])
    x[..., 0] += 90 * torch.randn(batch, n, generator=generator)
    return x


def test_robust_leaves_text_alone_where_global_blows_it_up_eightfold():
    reference = measure_stats([Tokens(massive_text(i)) for i in range(8)])
    bare = Stats(reference.mean, reference.std)
    text = Tokens(massive_text(99))
    no_sink = Tokens(text.states[:, 1:])
    lacking = text.states.clone()
    lacking[..., [0, 4, 39]] = torch.randn(1, 60, 3, generator=torch.manual_seed(0)) * 7
    for s in (reference, bare):
        for t in (text, no_sink, Tokens(lacking)):
            assert normalize(t, s, "robust") is t
            assert robust_scale(t, s).tolist() == [1.0]
    blown_up = normalize(Tokens(lacking), reference, "global").states / lacking
    assert 7 < blown_up.median() < 10


def test_robust_sees_a_wrong_scale_that_massive_dimensions_hide():
    reference = measure_stats([Tokens(massive_text(i)) for i in range(8)])
    x = massive_text(99)
    x[..., 40:] *= 0.5
    assert normalize(Tokens(x), reference, "global").states.std() / x.std() < 1.3
    assert robust_scale(Tokens(x), reference).item() == pytest.approx(2, rel=0.05)


def test_robust_brings_image_tokens_to_the_ordinary_scale():
    reference = measure_stats([Tokens(massive_text(i)) for i in range(8)])
    image = torch.randn(1, 100, 256, generator=torch.manual_seed(4)) * 2.5
    out = normalize(Tokens(image), reference, "robust").states
    close(out, image.double().numpy() * robust_scale(Tokens(image), reference).item())
    assert out.std().item() == pytest.approx(7, rel=0.03)


def test_robust_enlarges_neither_massive_dimensions_nor_sinks():
    s = Stats(torch.zeros(64), torch.full((64,), 7.0))
    x = torch.randn(1, 80, 64, generator=torch.manual_seed(5))
    x[..., 9] *= 600  # as image tokens have in one dimension
    x[:, 7] *= 5000
    out = normalize(Tokens(x), s, "robust").states
    assert torch.equal(out[..., 9], x[..., 9]) and torch.equal(out[:, 7], x[:, 7])
    rest = [d for d in range(64) if d != 9]
    ordinary = [n for n in range(80) if n != 7]
    ratio = (out / x)[0][ordinary][:, rest]
    assert ratio.min() == pytest.approx(7, rel=0.1) and ratio.max() == pytest.approx(ratio.min())
    shrunk = normalize(Tokens(x * 100), s, "robust").states
    assert (shrunk / (x * 100)).max() < 0.1  # where it shrinks, everything shrinks


def test_robust_compares_like_with_like_when_whole_tokens_are_sinks():
    def with_sink(seed: int) -> torch.Tensor:
        x = torch.randn(1, 40, 64, generator=torch.manual_seed(seed)) * 7
        x[:, 0] *= 80
        return x

    reference = measure_stats([Tokens(with_sink(i)) for i in range(5)])
    assert reference.std.median() > 50
    t = Tokens(with_sink(77))
    assert normalize(t, reference, "robust") is t
    image = Tokens(torch.randn(1, 40, 64, generator=torch.manual_seed(6)) * 3.5)
    assert robust_scale(image, reference).item() == pytest.approx(2, rel=0.05)


def test_the_robust_scale_is_the_median_over_ordinary_dimensions():
    x = torch.randn(1, 1000, 10, generator=torch.manual_seed(9))
    x = (x - x.mean(1)) / x.std(1)  # own std 1
    ordinary = [2.0, 3.0, 4.0, 5.0, 6.0]
    s = Stats(torch.zeros(10), torch.tensor([*ordinary, 900, 1000, 1100, 1200, 0]))
    x[..., 4] = 3.0  # constant, as is dimension 9 in the reference
    assert robust_scale(Tokens(x), s).item() == pytest.approx(3, rel=1e-3)


def test_robust_is_not_fooled_by_few_tokens():
    reference = measure_stats(Tokens(torch.randn(1, 500, 4096, generator=torch.manual_seed(7))))
    for n in (2, 3, 5, 9):
        few = torch.randn(1, n, 4096, generator=torch.manual_seed(n))
        assert robust_scale(Tokens(few), reference).item() == 1
        own = measure_stats(Tokens(few * 3))
        assert robust_scale(Tokens(few), own).item() == pytest.approx(3, rel=1e-3)


def test_robust_is_per_row_and_a_right_row_stays_bit_for_bit():
    x = torch.randn(2, 50, 128, generator=torch.manual_seed(8))
    x[1] *= 0.25
    t = Tokens(x.to(torch.bfloat16))
    s = Stats(torch.zeros(128), torch.ones(128))
    out = normalize(t, s, "robust")
    assert torch.equal(out.states[0], t.states[0])
    assert out.states[1].float().std().item() == pytest.approx(1, rel=0.03)
    zeros = Tokens(torch.zeros(1, 5, 128))
    assert normalize(zeros, s, "robust") is zeros


@pytest.mark.parametrize("mode", ["global", "per_dim", "hybrid", "robust", "auto"])
def test_no_reference_names_the_wire(mode):
    t = Tokens(torch.randn(1, 5, 4))
    with pytest.raises(ValueError) as error:
        normalize(t, None, mode)
    assert WIRE in str(error.value)


def test_global_needs_no_reference_with_a_target_std():
    x = random_case(4, 1, 9, 5)[0]
    out = normalize(Tokens(torch.from_numpy(x)), None, "global", target_std=61.0)
    assert out.states.std().item() == pytest.approx(61, rel=1e-5)


def test_other_widths_and_single_tokens_are_refused_in_words():
    s = Stats(torch.zeros(4), torch.ones(4))
    for mode in ("global", "per_dim", "hybrid", "robust"):
        with pytest.raises(ValueError, match="reference is 4 wide, these tokens are 5 wide"):
            normalize(Tokens(torch.randn(1, 3, 5)), s, mode)
    one = Tokens(torch.randn(1, 1, 4))
    for mode in ("per_dim", "hybrid", "robust"):
        with pytest.raises(ValueError, match=f"{mode}.*at least 2 tokens; there is 1.*mode global"):
            normalize(one, s, mode)
    assert normalize(one, s, "global").states.std().item() == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 2 values"):
        normalize(Tokens(torch.ones(1, 1, 1)), None, "global", target_std=1.0)
    with pytest.raises(TypeError, match="`stats` of `normalize` is a Tokens, expected Stats"):
        normalize(one, one, "per_dim")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "zscore"}, "`mode` 'zscore'.*auto, global, per_dim, hybrid, robust"),
        ({"weight": 1.5}, "`weight` .*0 to 1, this is 1.5"),
        ({"strength": -0.1}, "`strength` .*0 to 1, this is -0.1"),
        ({"clip_sigma": -1.0}, "`clip_sigma` .*this is -1"),
        ({"target_std": 0.0}, "`target_std` .*this is 0"),
        ({"target_std": float("nan")}, "`target_std` .*this is nan"),
    ],
)
def test_settings_out_of_range(settings, words):
    with pytest.raises(ValueError, match=words):
        normalize(Tokens(torch.randn(1, 3, 4)), Stats(torch.zeros(4), torch.ones(4)), **settings)


def test_whole_numbers_of_more_than_64_bits_are_numbers():
    t = Tokens(torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0)))
    stats = measure_stats(t)
    for mode, more in (("per_dim", {"clip_sigma": 10**30}), ("global", {"target_std": 10**30})):
        as_floats = {name: float(value) for name, value in more.items()}
        whole, same = (normalize(t, stats, mode, **one).states for one in (more, as_floats))
        assert torch.equal(whole, same) and torch.isfinite(whole).all()
