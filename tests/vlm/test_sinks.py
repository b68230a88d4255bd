"""Statistics without sink tokens: what is measured, and what a diffusion model then meets."""

import numpy as np
import pytest
import torch

from vlm.token_map import new_map
from vlm.tokens.normalize import normalize
from vlm.tokens.spread import massive_dims, sink_tokens
from vlm.tokens.stats import Stats, measure_stats
from vlm.tokens.tokens import Tokens

WIDTH, MASSIVE = 640, (4, 396, 0)
ORDINARY = [d for d in range(WIDTH) if d not in MASSIVE]
# Of each dimension, for every text and picture alike.
SPREAD = 5.6 * torch.exp(0.4 * torch.randn(WIDTH, generator=torch.manual_seed(1)))
CENTRE = torch.randn(WIDTH, generator=torch.manual_seed(2)) * 2


def text(n: int, seed: int) -> Tokens:
    """A prompt as Qwen3-4B's penultimate layer: its first token is a sink in three dimensions."""
    x = torch.randn(1, n, WIDTH, generator=torch.manual_seed(seed)) * SPREAD + CENTRE
    x[0, 0, list(MASSIVE)] = torch.tensor([15000.0, -5200.0, 1060.0])
    return Tokens(x)


def image(n: int = 576) -> Tokens:
    """Image tokens: other scale and mean, and none of the massive dimensions."""
    x = torch.randn(1, n, WIDTH, generator=torch.manual_seed(7)) * SPREAD.flip(0) + 3
    return Tokens(x, new_map(["image"] * n, [0] * n))


def behind_the_norm(t: Tokens) -> float:
    """Size of the ordinary dimensions behind an RMSNorm, over the tokens that are no sinks."""
    x = t.states[0][~sink_tokens(t.states)[0]]
    x = x * x.square().mean(dim=1, keepdim=True).rsqrt()
    return x[:, ORDINARY].square().mean().sqrt().item()


def against_text(t: Tokens) -> float:
    return behind_the_norm(t) / behind_the_norm(text(2000, 99))


@pytest.mark.parametrize("n", [12, 24, 80, 300])
@pytest.mark.parametrize("mode", ["auto", "per_dim", "hybrid"])
def test_ordinary_dimensions_arrive_as_they_do_in_text(n, mode):
    reference = measure_stats(text(n, 3))
    assert reference.sinks == 1
    assert against_text(normalize(image(), reference, mode)) == pytest.approx(1, abs=0.1)


def test_the_published_way_puts_everything_into_the_massive_dimensions():
    reference = measure_stats(text(24, 3))
    out = normalize(image(), reference, "per_dim", sinks=True)
    energy = out.states.square().mean(dim=1)[0]
    assert energy[list(MASSIVE)].sum() / energy.sum() > 0.95
    assert against_text(out) < 0.3


def test_published_statistics_without_a_second_set_do_too():
    measured = measure_stats([text(30, seed) for seed in range(10)])
    bare = Stats(measured.mean, measured.std, global_std=measured.global_std)
    assert set(bare.massive) == set(MASSIVE) == set(measured.massive)
    mean, std = bare.ordinary()
    assert torch.equal(mean[ORDINARY], bare.mean[ORDINARY])
    assert torch.equal(std[ORDINARY], bare.std[ORDINARY])
    assert (std[list(MASSIVE)] == std[ORDINARY].median()).all()
    assert (mean[list(MASSIVE)].abs() < 3 * std[ORDINARY].median()).all()
    assert against_text(normalize(image(), bare, "per_dim")) == pytest.approx(1, abs=0.1)


def test_a_second_std_alone_as_older_files_have_shrinks_the_mean_with_it():
    measured = measure_stats([text(30, seed) for seed in range(10)])
    older = Stats(measured.mean, measured.std, std_without_sinks=measured.std_without_sinks)
    mean, std = older.ordinary()
    assert torch.equal(std, measured.std_without_sinks)
    assert torch.equal(mean[ORDINARY], measured.mean[ORDINARY])
    shrunk = (measured.mean * measured.std_without_sinks / measured.std)[list(MASSIVE)]
    assert torch.allclose(mean[list(MASSIVE)], shrunk)


def test_what_is_measured_without_sinks_is_what_the_other_tokens_have():
    prompts = [text(20 + seed, seed) for seed in range(4)]
    rest = torch.cat([t.states[0, 1:] for t in prompts]).double().numpy()
    s = measure_stats(prompts)
    assert (s.count, s.sinks) == (sum(t.n for t in prompts), 4)
    np.testing.assert_allclose(s.mean_without_sinks, rest.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(s.std_without_sinks, rest.std(axis=0, ddof=1), rtol=1e-4)
    assert s.ordinary_std_of_all() == pytest.approx(rest.std(ddof=1), rel=1e-4)
    assert s.ordinary()[0] is s.mean_without_sinks and s.ordinary()[1] is s.std_without_sinks


def test_a_sink_among_the_tokens_stays_and_does_not_count():
    reference = measure_stats(text(300, 3))
    t = image(100)
    alone = normalize(Tokens(t.states[:, 1:]), reference, "per_dim").states
    t.states[0, 0, 4] = 15000.0
    out = normalize(t, reference, "per_dim").states
    assert torch.equal(out[:, 0], t.states[:, 0])
    assert torch.allclose(out[:, 1:], alone, rtol=1e-4, atol=1e-4)


def test_auto_for_text_scales_to_ordinary_tokens_and_global_by_name_to_all():
    reference = measure_stats(text(300, 3))
    t = text(20, 5)
    t = Tokens(t.states * 0.5, new_map(["text"] * 20))
    factor = (normalize(t, reference).states / t.states).median().item()
    assert factor == pytest.approx(2, rel=0.1)
    published = normalize(t, reference, "global").states
    assert published.std() == pytest.approx(reference.global_std, rel=1e-4)
    assert torch.equal(published, normalize(t, reference, "auto", sinks=True).states)
    # 61 is a std of all tokens: the tokens' own is too.
    assert normalize(t, None, target_std=61.0).states.std() == pytest.approx(61, rel=1e-4)


def test_without_sinks_and_massive_dimensions_both_ways_are_the_same_bits():
    t = image(40)
    s = Stats(CENTRE, SPREAD)
    for mode in ("per_dim", "hybrid", "auto"):
        assert torch.equal(normalize(t, s, mode).states, normalize(t, s, mode, sinks=True).states)


def test_massive_is_ten_times_the_median_of_what_varies():
    assert massive_dims(torch.tensor([0.0, 0, 0, 1, 1.2, 1, 11])).tolist() == [False] * 6 + [True]
    assert not massive_dims(torch.zeros(4)).any()
    assert not massive_dims(torch.tensor([1.0, 1, 9])).any()
