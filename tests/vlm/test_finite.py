"""NaN and Inf never leave: not in what comes in, not in what is made, not in a file."""

import pytest
import torch

import vlm
from vlm.batch import recipe
from vlm.cli import main
from vlm.conditioning.entries import Entry, read_entries, write_entries
from vlm.finite import is_finite, need_finite
from vlm.tokens.select import select_layers
from vlm.tokens.tokens import Tokens

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_number_anywhere_is_seen(dtype, value):
    """As isfinite sees it, wherever the number stands and however the tensor lies in memory."""
    generator = torch.Generator().manual_seed(0)
    for size in (1, 7, 64, 1025, 40_000):
        plain = torch.randn(size, generator=generator).to(dtype)
        assert is_finite(plain)
        for place in {0, size - 1, size // 2, size // 3}:
            broken = plain.clone()
            broken[place] = value
            assert not is_finite(broken)
            assert not is_finite(broken.repeat(2, 1).T) and not is_finite(broken[..., None])


def test_the_largest_numbers_are_numbers():
    for dtype in DTYPES:
        limits = torch.finfo(dtype)
        assert is_finite(torch.tensor([limits.max, limits.min, limits.tiny, 0], dtype=dtype))
    assert is_finite(torch.arange(3)) and is_finite(torch.empty(0))
    assert is_finite(torch.ones(4).to(torch.float8_e4m3fn))
    assert not is_finite(torch.full((4,), float("nan")).to(torch.float8_e4m3fn))


def broken(value, *places):
    states = torch.ones(1, 6, 4)
    for place in places:
        states[0, place, 2] = value
    return states


def test_the_sentence_tells_how_many_and_where():
    with pytest.raises(
        ValueError, match="X holds NaN or Inf in 2 of 6 tokens, the first is token 3"
    ):
        need_finite(broken(BAD[0], 3, 5), "X", "Do.")


@pytest.mark.parametrize("value", BAD)
def test_what_comes_over_a_wire(value):
    with pytest.raises(ValueError, match="text on Alpha Blend holds NaN or Inf.*`dtype` bfloat16"):
        read_entries([[broken(value, 1), {}]], "text on Alpha Blend")


@pytest.mark.parametrize("value", BAD)
def test_what_a_node_makes(value):
    with pytest.raises(ValueError, match="What is made here holds NaN or Inf in 1 of 6 tokens"):
        write_entries([Entry(Tokens(broken(value, 1)), {})])
    pooled = torch.tensor([[0.0, value]])
    with pytest.raises(ValueError, match="The pooled_output .* NaN or Inf"):
        write_entries([Entry(Tokens(torch.ones(1, 6, 4)), {"pooled_output": pooled})])
    large = torch.full((1, 2, 2), 1e300, dtype=torch.float64)  # too large for CONDITIONING's dtype
    with pytest.raises(ValueError, match="What is made here"):
        write_entries([Entry(Tokens(large), {})])


def test_what_the_command_line_makes(tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipe, "filter_tokens", lambda *a, **k: Tokens(broken(BAD[0], 2)))
    out = tmp_path / "c.safetensors"
    words = ["encode", "--model", str(tiny_folder(layers=4)), "--text", "a", "--layers=2"]
    assert main([*words, "--out", str(out)]) == 2 and not out.exists()
    assert "What is made here holds NaN or Inf in 1 of 6 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    "how", [{"layers": "1:1e6, 2:1e6"}, {"layers": "1:1e6", "combine": "concat"}]
)
def test_weights_too_large_for_float16_name_the_layers(tiny_folder, how):
    states = vlm.load(tiny_folder(layers=4), dtype="float16").encode("a house", target="chat")
    how = {"hold_norm": False, **how}
    with pytest.raises(ValueError, match="layers 1.* in float16 holds NaN or Inf.*Lower"):
        select_layers(states, **how)
