"""Reference statistics: measuring, what follows from them, and the file they are kept in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vlm.tokens.spread import sink_tokens
from vlm.tokens.stats import Stats, load_stats, measure_stats, save_stats
from vlm.tokens.tokens import Tokens

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "reference.safetensors")


def random_tokens(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(shape[-1], generator=generator) * 20 + 0.5
    shift = torch.randn(shape[-1], generator=generator) * 5
    return Tokens((torch.randn(*shape, generator=generator) * scale + shift).to(dtype))


def close(got: torch.Tensor, want: np.ndarray, tolerance: float = 1e-5) -> None:
    want = np.asarray(want)
    assert tuple(got.shape) == want.shape
    error = np.abs(got.double().numpy() - want).max()
    assert error <= tolerance * max(1.0, np.abs(want).max())


def test_every_group_of_golden_keys_is_known():
    """The other tests check their own group's keys one by one."""
    ours = {"stats", "vl", "text", "neutral", "normalize", "outlier", "blend", "schedule"}
    later = {"griddot", "alignnet_cnn", "alignnet_scale", "alignnet_mean", "qwen2vl_flux"}
    assert {key.split(".")[0] for key in GOLDEN} == ours | {"style_delta"} | later
    assert {key for key in GOLDEN if key.startswith("stats")} == {
        "stats.per_dim_mean",
        "stats.per_dim_std",
    }


def test_measuring_what_was_normalised_per_dim_gives_the_golden_statistics():
    s = measure_stats(Tokens(GOLDEN["normalize.per_dim_noclip"][None]))
    close(s.mean, GOLDEN["stats.per_dim_mean"].numpy())
    close(s.std, GOLDEN["stats.per_dim_std"].numpy())
    scaled = measure_stats(Tokens(GOLDEN["normalize.global_61"][None]))
    assert scaled.global_std == pytest.approx(61, rel=1e-5)


@pytest.mark.parametrize(
    "shapes", [[(1, 2, 3)], [(1, 40, 48)], [(3, 17, 8)], [(1, 1, 5), (2, 30, 5), (1, 9, 5)]]
)
def test_all_tokens_of_all_rows_and_entries_are_pooled(shapes):
    entries = [random_tokens(i, *shape) for i, shape in enumerate(shapes)]
    pooled = np.concatenate([e.states.double().numpy().reshape(-1, e.width) for e in entries])
    s = measure_stats(entries if len(entries) > 1 else entries[0])
    close(s.mean, pooled.mean(axis=0), 1e-6)
    close(s.std, pooled.std(axis=0, ddof=1), 1e-6)
    assert s.global_std == pytest.approx(pooled.std(ddof=1), rel=1e-6)
    assert s.count == len(pooled) and s.width == pooled.shape[1]
    assert s.mean.dtype == s.std.dtype == torch.float32


def test_a_generator_of_half_precision_tokens_is_measured_in_float32():
    entries = [random_tokens(i, 1, 20, 6, dtype=torch.float16) for i in range(3)]
    pooled = np.concatenate([e.states.double().numpy()[0] for e in entries])
    s = measure_stats(e for e in entries)
    close(s.std, pooled.std(axis=0, ddof=1), 1e-6)
    assert s.std.dtype == torch.float32


def test_a_large_mean_does_not_cost_the_small_std():
    x = np.random.default_rng(0).normal(size=(1, 400, 3)) + 3000
    tokens = Tokens(torch.tensor(x, dtype=torch.float32))
    stored = tokens.states.double().numpy()[0]
    np.testing.assert_allclose(measure_stats(tokens).std, stored.std(axis=0, ddof=1), rtol=1e-3)


def test_global_std_of_bare_statistics_is_the_limit_of_many_tokens():
    mean, std = torch.tensor([1.0, -2.0, 7.0]), torch.tensor([0.5, 3.0, 2.0])
    s = Stats(mean=mean, std=std)
    assert s.global_std == pytest.approx((std.square().mean() + mean.numpy().var()).sqrt())
    x = np.random.default_rng(1).normal(size=(200_000, 3)) * std.numpy() + mean.numpy()
    assert s.global_std == pytest.approx(x.std(), rel=0.01)
    assert Stats(mean, std, global_std=61.0).global_std == 61.0
    assert Stats([0.0], [2.0]).global_std == 2.0


def test_sink_tokens_stay_out_of_the_second_std():
    t = random_tokens(5, 2, 30, 16)
    plain = t.states.clone()
    t.states[:, 0] *= 60
    expected = torch.zeros(2, 30, dtype=torch.bool)
    expected[:, 0] = True
    assert torch.equal(sink_tokens(t.states), expected)
    s = measure_stats(t)
    ordinary = plain[:, 1:].double().numpy().reshape(-1, 16)
    close(s.std_without_sinks, ordinary.std(axis=0, ddof=1))
    assert (s.std > 3 * s.std_without_sinks).sum() > 8
    without = measure_stats(Tokens(plain))
    assert torch.equal(without.std_without_sinks, without.std)


def test_no_row_loses_so_many_tokens_that_nothing_can_be_measured():
    assert not sink_tokens(torch.tensor([[[1.0], [100.0]]])).any()
    assert not sink_tokens(torch.tensor([[[0.0], [0.0], [0.0], [5.0]]])).any()
    assert sink_tokens(torch.tensor([[[1.0], [1.0], [100.0]]])).tolist() == [[False, False, True]]


def test_the_file_brings_back_everything(tmp_path):
    path = tmp_path / "qwen3.safetensors"
    s = measure_stats(
        random_tokens(3, 1, 20, 8), model="Qwen3-4B", layer=-2, prompts=["a red house", "日本語"]
    )
    save_stats(s, path)
    back = load_stats(path)
    for name in ("mean", "std", "std_without_sinks"):
        assert torch.equal(getattr(back, name), getattr(s, name))
    assert (back.model, back.layer, back.count) == ("Qwen3-4B", -2, 20)
    assert back.prompts == ("a red house", "日本語") and back.global_std == s.global_std
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["prompts"]) == ["a red house", "日本語"]


def test_loaded_statistics_are_not_pages_of_their_file(tmp_path):
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    width = 7680  # over a page each
    measured = Stats(torch.ones(width), torch.ones(width), std_without_sinks=torch.ones(width))
    changed = Stats(*[torch.full((width,), 5.0)] * 2, std_without_sinks=torch.full((width,), 5.0))
    save_stats(measured, path)
    save_stats(changed, other)
    back = load_stats(path)
    with path.open("r+b") as file:  # in place, as cp does
        file.write(other.read_bytes())
    for name in ("mean", "std", "std_without_sinks"):
        assert torch.equal(getattr(back, name), torch.ones(width))


def test_bare_statistics_and_other_peoples_files_load(tmp_path):
    save_stats(Stats([1.0, 2.0], [3.0, 4.0]), tmp_path / "bare.safetensors")
    back = load_stats(str(tmp_path / "bare.safetensors"))
    assert back.mean.tolist() == [1, 2] and back.std.tolist() == [3, 4]
    assert back.model is None and back.std_without_sinks is None
    plain = {"mean": torch.ones(3, dtype=torch.bfloat16), "std": torch.ones(3)}
    plain["more"] = torch.ones(1)
    save_file(plain, tmp_path / "plain.safetensors", metadata={"model": "not JSON"})
    assert load_stats(tmp_path / "plain.safetensors").mean.dtype == torch.float32


def test_a_wrong_file_is_refused_with_what_was_expected(tmp_path):
    expected = "`save_stats` writes: safetensors with mean and std"
    with pytest.raises(FileNotFoundError, match=expected):
        load_stats(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("mean,std\n1,2\n")
    with pytest.raises(ValueError, match="text.safetensors is not a safetensors file.*" + expected):
        load_stats(tmp_path / "text.safetensors")
    save_file({"linear.weight": torch.ones(2, 2), "std": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="no statistics but 'linear.weight', 'std'.*" + expected):
        load_stats(tmp_path / "w.safetensors")
    wrong = {"format": "vlm_stats", "count": "{"}
    save_file({"mean": torch.ones(2), "std": torch.ones(2)}, tmp_path / "d.safetensors", wrong)
    with pytest.raises(ValueError, match="metadata of d.safetensors are damaged"):
        load_stats(tmp_path / "d.safetensors")
    with pytest.raises(FileNotFoundError, match="folder .*nowhere.* does not exist"):
        save_stats(Stats([1.0], [1.0]), tmp_path / "nowhere" / "s.safetensors")


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ([1.0, float("nan")], [1.0, 1.0], "NaN or Inf in mean"),
        ([1.0, 1.0], [1.0, float("inf")], "NaN or Inf in std"),
        ([1.0, 1.0], [1.0, -1.0], "negative value in std"),
        ([1.0, 1.0], [1.0], "as many values in std as in mean: 1 and 2"),
        ([[1.0, 1.0]], [[1.0, 1.0]], r"mean as \[D\].*\[1, 2\]"),
    ],
)
def test_values_that_are_no_statistics_are_refused_made_or_loaded(mean, std, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        Stats(mean=torch.tensor(mean), std=torch.tensor(std))
    path = tmp_path / "bad.safetensors"
    save_file({"mean": torch.tensor(mean), "std": torch.tensor(std)}, path)
    with pytest.raises(ValueError, match=words):
        load_stats(path)


def test_measuring_refuses_what_gives_no_spread():
    with pytest.raises(ValueError, match="at least 2, it got 1"):
        measure_stats(random_tokens(0, 1, 1, 4))
    with pytest.raises(ValueError, match="at least 2, it got 0"):
        measure_stats([])
    with pytest.raises(ValueError, match="different widths, 4 and 5"):
        measure_stats([random_tokens(0, 1, 3, 4), random_tokens(0, 1, 3, 5)])
    broken = random_tokens(0, 1, 3, 4)
    broken.states[0, 1, 2] = float("nan")
    with pytest.raises(ValueError, match="NaN or Inf.*bfloat16"):
        measure_stats(broken)


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ({"prompts": torch.tensor(1)}, r"prompts tensor\(1\), expected a list of texts"),
        ({"prompts": np.array(0.0)}, r"prompts array\(0\.\), expected a list of texts"),
        ({"layer": np.zeros((0, 2)), "sinks": 3}, "layer array.*expected a layer's number"),
        ({"count": np.zeros((2, 2)), "sinks": 3}, "count array.*expected a number of tokens"),
        ({"count": "\t1", "sinks": 3}, r"count '\\t1', expected a number of tokens"),
    ],
)
def test_notes_of_another_kind_are_refused_in_a_line(notes, words):
    with pytest.raises(ValueError, match=words) as error:
        Stats([0.0], [1.0], **notes)
    assert len(str(error.value).splitlines()) == 1


def test_a_number_that_no_float_holds_is_no_mean():
    with pytest.raises(TypeError, match="reference statistics is a list, expected a tensor"):
        Stats(mean=[1.0, 10**400], std=[1.0, 1.0])
