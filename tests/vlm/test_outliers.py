"""Outlier masks: golden values and an independent float64 transcription."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vlm.token_map import new_map
from vlm.tokens.outliers import OUTLIER_MODES, mask_outliers, outlier_dims
from vlm.tokens.stats import Stats, measure_stats
from vlm.tokens.tokens import Tokens

FILE = Path(__file__).parents[1] / "golden" / "reference.safetensors"
GOLDEN = load_file(FILE)
GOLDEN_STATS = Stats(mean=GOLDEN["stats.per_dim_mean"], std=GOLDEN["stats.per_dim_std"])


def close(got: torch.Tensor, want: object, tolerance: float = 1e-5) -> None:
    want = np.asarray(want, dtype=np.float64)
    assert tuple(got.shape) == want.shape
    error = np.abs(got.double().numpy() - want).max()
    assert error <= tolerance * max(1.0, np.abs(want).max())


def random_case(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 tokens whose row b has outliers in dimensions b and b + 2, and a reference std."""
    rng = np.random.default_rng(seed)
    std = rng.uniform(0.5, 3, shape[-1])
    x = rng.normal(size=shape) * std * rng.uniform(0.5, 2, shape[-1]) + rng.normal(size=shape[-1])
    for b in range(shape[0]):
        x[b, :, b] *= 100
        x[b, :, b + 2] *= 40
    return x.astype(np.float32), std.astype(np.float32)


@pytest.mark.parametrize("mode", OUTLIER_MODES)
def test_golden(mode):
    out = mask_outliers(Tokens(GOLDEN["vl"][None]), GOLDEN_STATS, mode, threshold=10.0)
    close(out.states[0], GOLDEN[f"outlier.{mode}_10"])


def test_golden_dims_and_every_golden_key_of_this_group_is_checked():
    with safe_open(FILE, "pt") as file:
        dims = json.loads(file.metadata()["outlier.dims"])
    assert outlier_dims(Tokens(GOLDEN["vl"][None]), GOLDEN_STATS, 10.0) == dims == [30]
    checked = {f"outlier.{mode}_10" for mode in OUTLIER_MODES}
    assert {key for key in GOLDEN if key.startswith("outlier.")} == checked


@pytest.mark.parametrize("shape", [(1, 2, 6), (3, 30, 9), (2, 200, 64)])
@pytest.mark.parametrize("threshold", [2.0, 10.0])
@pytest.mark.parametrize("mode", OUTLIER_MODES)
def test_fresh_cases_against_the_transcription(shape, threshold, mode):
    x, std = random_case(sum(shape), *shape)
    want = x.astype(np.float64)
    found = set()
    for row in want:
        own = row.std(axis=0, ddof=1)
        for d in np.flatnonzero(own > threshold * std):
            found.add(int(d))
            row[:, d] *= 0 if mode == "zero" else threshold * std[d] / own[d]
    t = Tokens(torch.from_numpy(x.copy()), new_map(["text"] * shape[1]))
    s = Stats(np.zeros_like(std), std)
    out = mask_outliers(t, s, mode, threshold)
    close(out.states, want, 2e-6)
    assert outlier_dims(t, s, threshold) == sorted(found) and found
    assert torch.equal(t.states, torch.from_numpy(x)) and out.token_map is t.token_map


def test_without_outliers_the_tokens_come_back_themselves():
    x, std = random_case(1, 1, 20, 6)
    t = Tokens(torch.from_numpy(x))
    s = Stats(np.zeros_like(std), std)
    for mode in OUTLIER_MODES:
        assert mask_outliers(t, s, mode, threshold=1000) is t
    assert outlier_dims(t, s, 1000) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", OUTLIER_MODES)
def test_dtype_stays_and_the_arithmetic_is_float32(dtype, mode):
    x, std = random_case(2, 1, 100, 6)
    s = Stats(np.zeros_like(std), std)
    t = Tokens(torch.from_numpy(x).to(dtype))
    out = mask_outliers(t, s, mode, 5.0)
    wide = mask_outliers(Tokens(t.states.float()), s, mode, 5.0)
    assert out.states.dtype == dtype and torch.equal(out.states, wide.states.to(dtype))


def test_a_sink_makes_no_outlier_and_hides_none():
    generator = torch.Generator().manual_seed(0)
    text, image = (torch.randn(1, 60, 64, generator=generator) for _ in range(2))
    text[:, 0, 4] += 5000
    reference = measure_stats(Tokens(text))
    image[..., 4] *= 40
    assert outlier_dims(Tokens(image), reference) == [4]
    assert outlier_dims(Tokens(image), reference, sinks=True) == []
    image[..., 4] /= 40
    image[:, 0, 9] += 5000
    assert outlier_dims(Tokens(image), reference) == []
    assert outlier_dims(Tokens(image), reference, sinks=True) == [9]
    assert mask_outliers(Tokens(image), reference).states is image


def test_errors_in_words():
    t, s = Tokens(torch.randn(1, 5, 4)), Stats(torch.zeros(4), torch.ones(4))
    with pytest.raises(ValueError, match="mode 'drop'.*zero, clamp, scale"):
        mask_outliers(t, s, "drop")
    with pytest.raises(ValueError, match="outlier mask .*a reference.*Give one as `stats`"):
        mask_outliers(t, None)
    with pytest.raises(ValueError, match="reference is 4 wide, these tokens are 6 wide"):
        outlier_dims(Tokens(torch.randn(1, 5, 6)), s)
    with pytest.raises(ValueError, match="at least 2 tokens; there is 1"):
        mask_outliers(Tokens(torch.randn(1, 1, 4)), s)
    for threshold in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            mask_outliers(t, s, threshold=threshold)


def test_a_threshold_of_more_than_64_bits_is_one():
    t = Tokens(torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0)))
    assert mask_outliers(t, measure_stats(t), threshold=10**30) is t
