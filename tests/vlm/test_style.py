"""Style delta: golden values and an independent float64 transcription."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vlm.token_map import new_map
from vlm.tokens.style import add_style, style_delta
from vlm.tokens.tokens import Tokens

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "reference.safetensors")


def close(got: torch.Tensor, want: object, tolerance: float = 1e-5) -> None:
    want = np.asarray(want, dtype=np.float64)
    assert tuple(got.shape) == want.shape
    error = np.abs(got.double().numpy() - want).max()
    assert error <= tolerance * max(1.0, np.abs(want).max())


def random_tokens(seed: int, *shape: int) -> Tokens:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * rng.uniform(0.5, 20, shape[-1]) + rng.normal(size=shape[-1]) * 5
    return Tokens(torch.tensor(x, dtype=torch.float32))


def resampled(x: np.ndarray, n: int) -> np.ndarray:
    at = (np.arange(n) + 0.5) * len(x) / n - 0.5
    return np.stack([np.interp(at, np.arange(len(x)), column) for column in x.T], axis=1)


def golden_delta() -> Tokens:
    return style_delta(Tokens(GOLDEN["vl"][None]), Tokens(GOLDEN["neutral"][None]), unit_std=True)


def test_golden_unit():
    close(golden_delta().states[0], GOLDEN["style_delta.unit"])


def test_golden_applied():
    out = add_style(Tokens(GOLDEN["text"][None]), golden_delta(), alpha=0.3, sinks=True)
    close(out.states[0], GOLDEN["style_delta.applied_0.3"])


def test_every_golden_key_of_this_group_is_checked():
    assert {key for key in GOLDEN if key.startswith("style_delta.")} == {
        "style_delta.unit",
        "style_delta.applied_0.3",
    }


@pytest.mark.parametrize("unit_std", [True, False])
@pytest.mark.parametrize(
    ("styled_shape", "neutral_shape"),
    [
        ((1, 40, 9), (1, 40, 9)),
        ((2, 12, 16), (2, 30, 16)),
        ((3, 30, 4), (1, 7, 4)),
        ((1, 1, 8), (2, 5, 8)),
    ],
)
def test_fresh_deltas_against_the_transcription(styled_shape, neutral_shape, unit_std):
    styled, neutral = random_tokens(1, *styled_shape), random_tokens(2, *neutral_shape)
    before = styled.states.clone(), neutral.states.clone()
    want = []
    for b in range(max(styled.batch, neutral.batch)):
        a = styled.states[b % styled.batch].double().numpy()
        delta = a - resampled(neutral.states[b % neutral.batch].double().numpy(), len(a))
        want.append(delta / delta.std(ddof=1) if unit_std else delta)
    close(style_delta(styled, neutral, unit_std).states, np.stack(want))
    assert torch.equal(styled.states, before[0]) and torch.equal(neutral.states, before[1])


@pytest.mark.parametrize("match_std", [True, False])
@pytest.mark.parametrize("alpha", [0.3, -1.5, 4.0])
@pytest.mark.parametrize(
    ("text_shape", "delta_shape"),
    [((1, 13, 9), (1, 40, 9)), ((2, 12, 16), (2, 12, 16)), ((1, 30, 4), (3, 7, 4))],
)
def test_fresh_additions_against_the_transcription(text_shape, delta_shape, alpha, match_std):
    text, delta = random_tokens(3, *text_shape), random_tokens(4, *delta_shape)
    before = text.states.clone(), delta.states.clone()
    want = []
    for b in range(max(text.batch, delta.batch)):
        a = text.states[b % text.batch].double().numpy()
        d = resampled(delta.states[b % delta.batch].double().numpy(), len(a))
        want.append(a + alpha * d * (a.std(ddof=1) / d.std(ddof=1) if match_std else 1))
    close(add_style(text, delta, alpha, match_std).states, np.stack(want))
    assert torch.equal(text.states, before[0]) and torch.equal(delta.states, before[1])


def test_a_sink_in_the_text_does_not_make_the_style_louder():
    text, delta = random_tokens(3, 1, 30, 9), random_tokens(4, 1, 30, 9)
    plain = add_style(text, delta).states - text.states
    loud = text.states.clone()
    loud[:, 0] *= 80
    added = add_style(Tokens(loud), delta).states - loud
    ratio = (added[:, 1:].norm() / plain[:, 1:].norm()).item()
    assert ratio == pytest.approx(1, rel=0.1)
    published = add_style(Tokens(loud), delta, sinks=True).states - loud
    assert published[:, 1:].norm() > 5 * plain[:, 1:].norm()


def test_alpha_zero_is_the_text_itself():
    text, delta = random_tokens(3, 1, 5, 4), random_tokens(4, 1, 9, 4)
    assert add_style(text, delta, alpha=0) is text


def test_the_same_tokens_have_no_style():
    t = random_tokens(5, 1, 6, 4)
    delta = style_delta(t, t)
    assert torch.equal(delta.states, torch.zeros(1, 6, 4))
    assert torch.equal(add_style(t, delta, alpha=1.0).states, t.states)


def test_maps_and_dtypes_follow_styled_and_text():
    styled = Tokens(random_tokens(1, 1, 3, 4).states.bfloat16(), new_map(["image"] * 3, [0] * 3))
    text = Tokens(random_tokens(2, 1, 2, 4).states.half(), new_map(["text"] * 2))
    delta = style_delta(styled, random_tokens(3, 1, 5, 4))
    assert delta.token_map is styled.token_map and delta.states.dtype == torch.bfloat16
    out = add_style(text, delta)
    assert out.token_map is text.token_map and out.states.dtype == torch.float16
    wide = add_style(Tokens(text.states.float()), Tokens(delta.states.float()))
    assert torch.equal(out.states, wide.states.half())


def test_errors_in_words():
    t = random_tokens(1, 2, 3, 4)
    with pytest.raises(ValueError, match="styled and neutral of different widths, 4 and 5"):
        style_delta(t, random_tokens(1, 2, 3, 5))
    with pytest.raises(ValueError, match="text and delta of different widths, 4 and 5"):
        add_style(t, random_tokens(1, 2, 3, 5), alpha=0)
    with pytest.raises(ValueError, match="different batch sizes, 2 and 3"):
        style_delta(t, random_tokens(1, 3, 3, 4))
    for alpha in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"`alpha` of `add_style`.*{alpha}"):
            add_style(t, t, alpha=alpha)
