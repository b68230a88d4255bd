"""Blend: golden values, an independent float64 transcription, maps, and what is refused."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vlm.token_map import new_map
from vlm.tokens.alphas import SCHEDULES, parse_alphas, schedule_alphas
from vlm.tokens.blend import METHODS, blend, resample, resolve_method
from vlm.tokens.pooling import pool_to
from vlm.tokens.tokens import Tokens

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "reference.safetensors")
ALPHAS = ("0.0", "0.3", "0.7", "1.0")
MIXES = tuple(method for method in METHODS if method != "concat")
PUBLISHED = tuple(method for method in MIXES if method not in ("auto", "pool"))
CURVES = ("linear", "ease_in", "ease_out")


def close(got: torch.Tensor, want: object, tolerance: float = 1e-5) -> None:
    want = np.asarray(want, dtype=np.float64)
    assert tuple(got.shape) == want.shape
    error = np.abs(got.double().numpy() - want).max()
    assert error <= tolerance * max(1.0, np.abs(want).max())


def random_tokens(seed: int, *shape: int) -> Tokens:
    """float32 values of different scale and mean per dimension."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * rng.uniform(0.5, 20, shape[-1]) + rng.normal(size=shape[-1]) * 5
    return Tokens(torch.tensor(x, dtype=torch.float32))


def resampled(x: np.ndarray, n: int) -> np.ndarray:
    at = (np.arange(n) + 0.5) * len(x) / n - 0.5
    return np.stack([np.interp(at, np.arange(len(x)), column) for column in x.T], axis=1)


def transcribed(
    vl: torch.Tensor, text: torch.Tensor, alphas: np.ndarray, method: str
) -> np.ndarray:
    """One row of each, [N, D] and [M, D], after the published description, in float64."""
    vl, text = vl.double().numpy(), text.double().numpy()
    if method == "interpolate":
        mixed = resampled(vl, len(text))
    else:
        n = min(len(vl), len(text))
        vl, text = vl[:n], text[:n]
        axis = {"truncate": 0, "adain_per_dim": 0, "adain_per_token": 1, "adain_global": None}
        over = {"axis": axis[method], "keepdims": True}
        unit = (text - text.mean(**over)) / text.std(ddof=1, **over)
        mixed = vl if method == "truncate" else unit * vl.std(ddof=1, **over) + vl.mean(**over)
    return alphas[:, None] * mixed + (1 - alphas[:, None]) * text


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("method", PUBLISHED)
def test_golden(method, alpha):
    vl, text = Tokens(GOLDEN["vl"][None]), Tokens(GOLDEN["text"][None])
    out = blend(vl, text, alpha=float(alpha), method=method)
    close(out.states[0], GOLDEN[f"blend.{method}_{alpha}"])


@pytest.mark.parametrize("schedule", CURVES)
def test_golden_schedules(schedule):
    close(schedule_alphas(0.5, 13, schedule), GOLDEN[f"schedule.{schedule}"], 1e-6)


def test_golden_per_token():
    vl, text = Tokens(GOLDEN["vl"][None]), Tokens(GOLDEN["text"][None])
    out = blend(vl, text, alpha=0.5, method="truncate", schedule="ease_in")
    close(out.states[0], GOLDEN["blend.per_token_ease_in"])


def test_every_golden_key_of_this_group_is_checked():
    checked = {f"blend.{method}_{alpha}" for method in PUBLISHED for alpha in ALPHAS}
    checked |= {f"schedule.{schedule}" for schedule in CURVES} | {"blend.per_token_ease_in"}
    assert {key for key in GOLDEN if key.split(".")[0] in ("blend", "schedule")} == checked
    assert list(SCHEDULES) == ["constant", *CURVES]


@pytest.mark.parametrize(
    ("vl_shape", "text_shape"),
    [
        ((1, 40, 9), (1, 13, 9)),
        ((2, 7, 16), (2, 30, 16)),
        ((3, 11, 8), (1, 11, 8)),
        ((1, 2, 5), (4, 3, 5)),
    ],
)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("method", PUBLISHED)
def test_fresh_cases_against_the_transcription(vl_shape, text_shape, schedule, method):
    vl, text = random_tokens(1, *vl_shape), random_tokens(2, *text_shape)
    before = vl.states.clone(), text.states.clone()
    n = text.n if method == "interpolate" else min(vl.n, text.n)
    t = np.arange(n) / (n - 1)
    curve = {"constant": t * 0 + 1, "linear": t, "ease_in": t**2, "ease_out": 1 - (1 - t) ** 2}
    want = []
    for b in range(max(vl.batch, text.batch)):
        rows = vl.states[b % vl.batch], text.states[b % text.batch]
        want.append(transcribed(*rows, 0.6 * curve[schedule], method))
    out = blend(vl, text, alpha=0.6, method=method, schedule=schedule)
    close(out.states, np.stack(want))
    assert torch.equal(vl.states, before[0]) and torch.equal(text.states, before[1])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_pool_mixes_the_pooled_tokens_and_auto_chooses_it_for_a_longer_picture(schedule):
    vl, text = random_tokens(1, 2, 40, 9), random_tokens(2, 1, 13, 9)
    assert [resolve_method(vl, text, m) for m in ("auto", "pool")] == ["pool", "pool"]
    pooled = pool_to(vl, 13).double().numpy()
    alphas = schedule_alphas(0.6, 13, schedule).double().numpy()[:, None]
    want = alphas * pooled + (1 - alphas) * text.states.double().numpy()
    close(blend(vl, text, 0.6, "pool", schedule).states, want)
    auto = blend(vl, text, 0.6, schedule=schedule).states
    assert torch.equal(auto, blend(vl, text, 0.6, "pool", schedule).states)


@pytest.mark.parametrize("n", [13, 5])
def test_a_picture_that_is_not_longer_is_interpolated(n):
    vl, text = random_tokens(1, 1, n, 9), random_tokens(2, 1, 13, 9)
    plain = blend(vl, text, 0.6, "interpolate").states
    for method in ("auto", "pool"):
        assert resolve_method(vl, text, method) == "interpolate"
        assert torch.equal(blend(vl, text, 0.6, method).states, plain)


@pytest.mark.parametrize(("have", "n"), [(40, 13), (3, 17), (1, 4), (5, 1), (600, 599)])
def test_resampling_is_torchs_linear_without_aligned_corners(have, n):
    x = random_tokens(3, 2, have, 6).states
    want = torch.nn.functional.interpolate(x.double().transpose(1, 2), size=n, mode="linear")
    close(resample(x, n), want.transpose(1, 2), 1e-6)


def test_resampling_to_the_same_length_is_the_identity():
    x = random_tokens(3, 2, 12, 6).states
    assert resample(x, 12) is x


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("method", METHODS)
def test_alpha_zero_is_the_text_itself(method, schedule):
    vl, text = random_tokens(1, 1, 5, 4), random_tokens(2, 1, 9, 4)
    assert blend(vl, text, alpha=0, method=method, schedule=schedule) is text


@pytest.mark.parametrize(("n", "m"), [(5, 9), (9, 5)])
def test_with_cut_truncate_has_the_shorter_length_throughout(n, m):
    vl, text = random_tokens(1, 1, n, 4), random_tokens(2, 1, m, 4)
    text = Tokens(text.states, new_map(["text"] * (m - 1) + ["template"]))
    for alpha in (0.0, 0.3, 1.0):
        out = blend(vl, text, alpha=alpha, method="truncate", cut=True)
        assert out.n == 5 and out.token_map["role"] == text.token_map["role"][:5]
    zero = blend(vl, text, alpha=0.0, method="truncate", cut=True)
    assert torch.equal(zero.states, text.states[:, :5])


def test_truncate_at_alpha_one_is_the_picture_uncut_or_cut():
    vl, text = random_tokens(1, 1, 9, 4), random_tokens(2, 1, 5, 4)
    vl = Tokens(vl.states, new_map(["image"] * 9, [0] * 9))
    whole = blend(vl, text, alpha=1.0, method="truncate")
    assert torch.equal(whole.states, vl.states) and whole.token_map is vl.token_map
    cut = blend(vl, text, alpha=1.0, method="truncate", cut=True)
    assert torch.equal(cut.states, vl.states[:, :5])
    assert blend(vl, text, alpha=1.0, method="truncate", schedule="linear").n == 5


def test_cut_changes_nothing_but_truncate():
    vl, text = random_tokens(1, 1, 9, 4), random_tokens(2, 1, 12, 4)
    for method in (method for method in METHODS if method != "truncate"):
        assert blend(vl, text, alpha=0, method=method, cut=True) is text
        plain, cut = (blend(vl, text, 0.4, method, cut=c).states for c in (False, True))
        assert torch.equal(plain, cut)


def picture_and_text() -> tuple[Tokens, Tokens]:
    grid = {"image": 0, "frames": 1, "rows": 2, "cols": 2}
    vl = new_map(
        ["image"] * 4 + ["text"],
        [0] * 4 + [-1],
        rows=[0, 0, 1, 1, 0],
        cols=[0, 1, 0, 1, 0],
        grids=[grid],
    )
    text = new_map(["image", "text", "text"], [0, -1, -1], grids=[grid])
    vl_states, text_states = random_tokens(1, 1, 5, 4).states, random_tokens(2, 1, 3, 4).states
    return Tokens(vl_states, vl), Tokens(text_states, text)


def test_concat_puts_the_picture_first_and_joins_the_maps():
    vl, text = picture_and_text()
    before = copy.deepcopy((vl.token_map, text.token_map))
    out = blend(vl, text, alpha=0.3, method="concat")
    assert torch.equal(out.states, torch.cat([vl.states, text.states], dim=1))
    assert out.token_map["role"] == ["image"] * 4 + ["text", "image", "text", "text"]
    assert out.token_map["image"] == [0, 0, 0, 0, -1, 1, -1, -1]
    assert [grid["image"] for grid in out.token_map["grids"]] == [0, 1]
    assert (vl.token_map, text.token_map) == before


def test_concat_of_one_map_and_none_calls_the_rest_unknown():
    vl, text = picture_and_text()
    out = blend(Tokens(vl.states), text, method="concat").token_map
    assert out["role"] == ["unknown"] * 5 + ["image", "text", "text"]
    assert out["image"] == [-1] * 5 + [0, -1, -1]
    assert blend(Tokens(vl.states), Tokens(text.states), method="concat").token_map is None


def test_concat_broadcasts_a_single_row():
    vl, text = random_tokens(1, 1, 2, 4), random_tokens(2, 3, 5, 4)
    out = blend(vl, text, method="concat").states
    assert out.shape == (3, 7, 4) and torch.equal(out[2, :2], vl.states[0])


def test_other_methods_return_the_texts_map():
    vl, text = picture_and_text()
    for method in MIXES:
        assert blend(vl, text, 0.5, method).token_map is text.token_map
        assert blend(vl, Tokens(text.states), 0.5, method).token_map is None
    assert blend(text, vl, 0.5, "truncate").token_map["role"] == ["image"] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", MIXES)
def test_the_texts_dtype_stays_and_the_arithmetic_is_float32(dtype, method):
    vl, text = random_tokens(1, 1, 40, 4), random_tokens(2, 1, 13, 4)
    vl, text = Tokens(vl.states.to(dtype)), Tokens(text.states.to(dtype))
    out = blend(vl, text, 0.4, method).states
    wide = blend(Tokens(vl.states.float()), Tokens(text.states.float()), 0.4, method).states
    assert out.dtype == dtype and torch.equal(out, wide.to(dtype))
    mixed = Tokens(vl.states.float())
    for alpha in (0.4, 1.0):
        assert blend(mixed, text, alpha, method).states.dtype == dtype
    assert blend(mixed, text, method="concat").states.dtype == dtype


def test_a_single_token_takes_the_start_of_a_schedule():
    assert schedule_alphas(0.5, 1, "linear").tolist() == [0.0]
    assert schedule_alphas(0.5, 1, "constant").tolist() == [0.5]


def test_errors_in_words():
    vl, text = random_tokens(1, 1, 5, 4), random_tokens(2, 1, 3, 4)
    with pytest.raises(ValueError, match="different widths, 4 and 6.*`load_connector`"):
        blend(vl, random_tokens(0, 1, 3, 6), alpha=0)
    with pytest.raises(ValueError, match="different batch sizes, 2 and 3"):
        blend(random_tokens(0, 2, 3, 4), random_tokens(0, 3, 3, 4))
    for alpha in (-0.1, 1.01, float("nan")):
        with pytest.raises(ValueError, match=f"from 0 to 1, this is {alpha}"):
            blend(vl, text, alpha=alpha)
    with pytest.raises(ValueError, match="`method` of `blend` is 'mix'.*" + ", ".join(METHODS)):
        blend(vl, text, method="mix")
    with pytest.raises(
        ValueError, match="`schedule` of `blend` is 'cubic'.*" + ", ".join(SCHEDULES)
    ):
        blend(vl, text, schedule="cubic")
    with pytest.raises(ValueError, match="adain_per_dim.*at least 2 tokens.*method interpolate"):
        blend(random_tokens(0, 1, 1, 4), text, method="adain_per_dim")


# --- alpha of each token


@pytest.mark.parametrize("schedule", CURVES)
def test_a_schedule_begins_where_it_is_told(schedule):
    alphas = schedule_alphas(0.6, 5, schedule, 0.2)
    assert alphas[0] == torch.tensor(0.2) and alphas[-1] == torch.tensor(0.6)
    assert (alphas.diff() > 0).all()
    assert torch.equal(schedule_alphas(0.6, 5, schedule, 0.0), schedule_alphas(0.6, 5, schedule))
    down = schedule_alphas(0.0, 5, schedule, 0.5)
    assert down[0] == 0.5 and down[-1] == 0.0
    vl, text = random_tokens(1, 1, 9, 8), random_tokens(2, 1, 5, 8)
    mixed = blend(vl, text, 0.0, "pool", schedule, schedule_start=0.5)
    assert not torch.equal(mixed.states[:, 0], text.states[:, 0])
    assert torch.equal(mixed.states[:, -1], text.states[:, -1])


@pytest.mark.parametrize("method", [method for method in METHODS if method != "concat"])
def test_a_list_has_an_alpha_for_each_token(method):
    vl, text = random_tokens(1, 1, 9, 8), random_tokens(2, 1, 5, 8)
    alphas = [0.0, 0.3, 1.0, 0.25, 0.0]
    mixed = blend(vl, text, alphas, method)
    for at, alpha in enumerate(alphas):
        same = blend(vl, text, alpha, method, cut=True)
        close(mixed.states[:, at], same.states[:, at], 1e-6)
    assert torch.equal(mixed.states[:, 0], text.states[:, 0])


def test_a_list_that_does_not_fit():
    vl, text = random_tokens(1, 1, 9, 8), random_tokens(2, 1, 5, 8)
    with pytest.raises(ValueError, match="list of 2, the result has 5 tokens"):
        blend(vl, text, [0.1, 0.2])
    with pytest.raises(ValueError, match="0 to 1, this is 1.5"):
        blend(vl, text, [0.1, 1.5, 0, 0, 0])
    with pytest.raises(ValueError, match="a list, which method concat does not read"):
        blend(vl, text, [0.1] * 5, "concat")
    with pytest.raises(ValueError, match="a list, which schedule linear does not read"):
        blend(vl, text, [0.1] * 5, "auto", "linear")


def test_alphas_as_text():
    assert parse_alphas(" 0.1, 1,0 ") == [0.1, 1.0, 0.0]
    assert parse_alphas("  ") == []
    for text in ("0.1,,0.2", "a", "nan", "1.1", "-0.1", "inf", "1e400"):
        with pytest.raises(ValueError, match=r"Alpha \d of the list is .*expected a number"):
            parse_alphas(text)
    with pytest.raises(ValueError, match="more than 16384 alphas") as caught:
        parse_alphas("0.1," * 100000)
    assert len(str(caught.value)) < 100
