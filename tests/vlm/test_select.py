"""Layer selection: how a choice is read, what auto becomes, and what comes out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vlm.targets import TARGETS
from vlm.token_map import new_map
from vlm.tokens.filter import filter_tokens
from vlm.tokens.layer_spec import parse_gains, parse_layers
from vlm.tokens.select import COMBINES, choose_layers, select_layers

L = 37


class HiddenStates:
    """Hidden states whose layers are given, and which count what is asked of them."""

    def __init__(
        self, num_layers: int = L, dtype: torch.dtype = torch.float32, image: bool = False, **target
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.states = torch.randn(2, num_layers, 5, 6, generator=generator).to(dtype)
        self.num_layers, self.width, self.n = num_layers, 6, 5
        self.has_images, self.dropped = image, 0
        roles = ["template", "image" if image else "text", "text", "text", "template"]
        self.token_map = new_map(roles, [-1, 0 if image else -1, -1, -1, -1])
        given = {"title": "Test", "layers": (-2,), "layers_with_images": None}
        given |= {"combine": "single", "final_norm": True}
        self.target = replace(TARGETS["chat"], **given | target)
        self.asked: list[tuple] = []

    def layers(self, ks: Sequence[int], final_norm: bool = True) -> torch.Tensor:
        self.asked.append((tuple(ks), final_norm))
        return self.states[:, list(ks)].clone()

    def layer(self, k: int, final_norm: bool = True) -> torch.Tensor:
        return self.layers([k], final_norm)[:, 0]


@pytest.mark.parametrize(
    ("spec", "indices"),
    [
        ("-2", [35]),
        ("0", [0]),
        (" 36 ", [36]),
        ("+3", [3]),
        ("-37", [0]),
        ("9,18,27", [9, 18, 27]),
        ("27, 9", [27, 9]),
        ("5,5", [5, 5]),
        ("all", list(range(37))),
        ("2:36:3", [2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35]),
        ("2:36", list(range(2, 36))),
        ("30:99", list(range(30, 37))),
        ("-3:", [34, 35, 36]),
        (":2", [0, 1]),
        ("::12", [0, 12, 24, 36]),
        ("3:0:-1", [3, 2, 1]),
        ("0, 4:8, -1", [0, 4, 5, 6, 7, 36]),
        (-8, [29]),
        ([9, -1], [9, 36]),
        ((0,), [0]),
    ],
)
def test_layers_without_weights(spec, indices):
    choice = parse_layers(spec, L)
    assert choice.indices == tuple(indices) and choice.weights is None


@pytest.mark.parametrize(
    ("spec", "combine", "indices", "weights"),
    [
        ("-2:0.7, -8:0.3", None, (35, 29), (0.7, 0.3)),
        ("2:0.5", None, (2,), (0.5,)),
        ("-2:1.0", None, (35,), (1.0,)),
        ("-2:0.7, -8:1", None, (35, 29), (0.7, 1.0)),
        ("-8:1, -2:.5", None, (29, 35), (1.0, 0.5)),
        ("3:1e-1, 4:-0.5", None, (3, 4), (0.1, -0.5)),
        ("-2:1", "weighted", (35,), (1.0,)),
        ("2:36", "weighted", (2,), (36.0,)),
        ("2:3, 4:5", "weighted", (2, 4), (3.0, 5.0)),
    ],
)
def test_layers_with_weights(spec, combine, indices, weights):
    choice = parse_layers(spec, L, combine)
    assert choice.indices == indices and choice.weights == weights


@pytest.mark.parametrize(
    ("spec", "combine", "words"),
    [
        ("40", None, r"Layer 40 does not exist: this model has layers 0 to 36 \(or -37 to -1\)"),
        ("-38", None, "Layer -38 does not exist"),
        ("1, 37:0.5", None, "Layer 1 has no weight"),
        ("37:0.5", None, "Layer 37 does not exist"),
        ([3, 50], None, "Layer 50 does not exist"),
        ("", None, "'' chooses no layer"),
        (" , ", None, "chooses no layer"),
        ([], None, "chooses no layer"),
        ("8:4", None, "'8:4' chooses no layer out of 0 to 36"),
        ("1:2:0", None, "step of '1:2:0' is 0"),
        ("last", None, "'last' is no choice of layers.*2:36:3"),
        ("1:2:3:4", None, "no choice of layers"),
        ("1;2", None, "no choice of layers"),
        ("a:0.5", None, "no choice of layers"),
        ("1.5", None, "'1.5' is no choice of layers"),
        ([True], None, "'True' is no choice of layers"),
        ("-2:0.5, 9", None, "Layer 9 has no weight"),
        ("-2:0.5, 2:8:3", None, "Expected layer:weight"),
        ("0" * 2000, "weighted", "'0{59}… is no layer of any model"),
        ("9,18", "weighted", "Layer 9 has no weight.*combine mean"),
        ([9, 18], "weighted", "Layer 9 has no weight"),
        ("all", "weighted", "Expected layer:weight"),
        ("-2:", "weighted", "Expected layer:weight"),
    ],
)
def test_unreadable_choices(spec, combine, words):
    with pytest.raises(ValueError, match=words):
        parse_layers(spec, L, combine)


def test_a_smaller_model_says_its_own_layers():
    with pytest.raises(ValueError, match=r"layers 0 to 4 \(or -5 to -1\)"):
        parse_layers("9,18,27", 5)


def test_one_layer_comes_as_it_is():
    h = HiddenStates(dtype=torch.bfloat16)
    t = select_layers(h, "-2")
    assert torch.equal(t.states, h.states[:, 35]) and t.token_map is h.token_map
    assert torch.equal(select_layers(h, 4).states, h.states[:, 4])
    for combine in ("single", "mean", "concat"):
        assert torch.equal(select_layers(h, "3", combine).states, h.states[:, 3])


def test_concat_is_layer_major_within_a_token():
    h = HiddenStates()
    t = select_layers(h, "9,18,27", combine="concat")
    assert t.states.shape == (2, 5, 18)
    for i, k in enumerate((9, 18, 27)):
        assert torch.equal(t.states[:, :, 6 * i : 6 * i + 6], h.states[:, k])


KREA = "2:36:3"  # twelve layers, as Krea 2 reads them


def test_gains_of_a_concatenation():
    h = HiddenStates()
    gains = [1, 1, 0.5, 1, 2, 0, 1, 1, -1, 1, 1, 1]
    plain = select_layers(h, KREA, "concat").states
    got = select_layers(h, KREA, "concat", gains=gains, hold_norm=False).states
    for i, (k, gain) in enumerate(zip(range(2, 36, 3), gains, strict=True)):
        assert torch.equal(got[:, :, 6 * i : 6 * i + 6], gain * h.states[:, k])
    assert torch.equal(select_layers(h, KREA, "concat", gains=[1] * 12).states, plain)


def test_the_norm_of_each_token_is_held():
    """A gain moves weight between layers and makes no token louder."""
    h = HiddenStates()
    gains = [1] * 9 + [5, 0, 0.2]
    plain = select_layers(h, KREA, "concat").states
    free = select_layers(h, KREA, "concat", gains=gains, hold_norm=False).states
    held = select_layers(h, KREA, "concat", gains=gains).states
    torch.testing.assert_close(held.norm(dim=-1), plain.norm(dim=-1), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        torch.nn.functional.normalize(held, dim=-1), torch.nn.functional.normalize(free, dim=-1)
    )
    assert not held[:, :, 60:66].any()  # a gain of 0 takes out its slice, and nothing else
    louder = held[:, :, 54:60].norm(dim=-1) / held[:, :, :6].norm(dim=-1)
    before = plain[:, :, 54:60].norm(dim=-1) / plain[:, :, :6].norm(dim=-1)
    torch.testing.assert_close(louder, 5 * before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gains_are_float32_and_come_in_the_states_dtype(dtype):
    h = HiddenStates(dtype=dtype)
    got = select_layers(h, "1, 2", "concat", gains=[0.3, 3]).states
    exact = torch.cat([0.3 * h.states[:, 1].double(), 3 * h.states[:, 2].double()], dim=-1)
    plain = torch.cat([h.states[:, 1], h.states[:, 2]], dim=-1).double()
    exact *= plain.norm(dim=-1, keepdim=True) / exact.norm(dim=-1, keepdim=True)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-7)


def test_weights_in_the_layers_are_gains_of_concat():
    h = HiddenStates()
    spec = select_layers(h, "2:1, 5:0.5", "concat", hold_norm=False).states
    assert torch.equal(
        spec, select_layers(h, "2, 5", "concat", gains=[1, 0.5], hold_norm=False).states
    )
    (one,) = select_layers(h, "5:0.5", "concat", hold_norm=False).states[:1]
    assert torch.equal(one, 0.5 * h.states[0, 5])
    target = HiddenStates(layers=(2, 5), combine="concat")
    auto = select_layers(target, gains=[1, 0.5], hold_norm=False).states
    assert torch.equal(auto, spec)


def test_gains_that_do_not_fit():
    h = HiddenStates()
    for arguments, gains, words in (
        (("2, 5, 8", "concat"), [1, 2], r"2 `gains` for 3 layers \(2, 5, 8\)"),
        (("2, 5", "mean"), [1, 2], "`combine` is mean. Set `combine` to concat"),
        (("2:1, 5:0.5", "concat"), [1, 2], "Both `layers` and `gains`"),
        (("2, 5", "concat"), [0, 0], "All `gains` are 0"),
        (("2, 5", "concat"), [1, 1e9], "A gain of 1e.09 is out of range"),
        (("2, 5", "concat"), [1, float("nan")], "A gain of nan is out of range"),
    ):
        with pytest.raises(ValueError, match=words):
            select_layers(h, *arguments, gains=gains)
    assert h.asked == []


def test_gains_as_text():
    assert parse_gains("1, .5,-2,1e-1") == [1.0, 0.5, -2.0, 0.1]
    assert parse_gains("  ") is None
    for text in ("a", "1,,2", "nan", "inf", "1;2"):
        with pytest.raises(ValueError, match="`gains` cannot be read: .* is no number"):
            parse_gains(text)
    for many, said in ((600, "over 512"), (100_000, "of 200001 characters")):
        with pytest.raises(ValueError, match=said) as caught:
            parse_gains("1," * many + "1")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_sums_are_float32_and_come_in_the_states_dtype(dtype):
    h = HiddenStates(dtype=dtype)
    exact = h.states.double()
    mean = select_layers(h, "all", combine="mean").states
    weighted = select_layers(h, "-2:0.7, -8:0.3, 0:-1.5").states
    one = select_layers(h, "3:0.3").states
    want = 0.7 * exact[:, 35] + 0.3 * exact[:, 29] - 1.5 * exact[:, 0]
    step = {torch.float32: 1e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8}[dtype]
    for got, wanted in ((mean, exact.mean(1)), (weighted, want), (one, 0.3 * exact[:, 3])):
        assert got.dtype == dtype
        np.testing.assert_allclose(got.double(), wanted, rtol=step, atol=1e-6)


def test_all_layers_are_asked_for_at_once():
    h = HiddenStates()
    select_layers(h, "9,18,27", combine="concat")
    select_layers(h, "2:8:2, -1", combine="mean", final_norm=False)
    select_layers(h, "-2:0.7, -8:0.3")
    select_layers(h, "-2")
    assert h.asked == [
        ((9, 18, 27), True),
        ((2, 4, 6, 36), False),
        ((35, 29), True),
        ((35,), True),
    ]


def test_auto_is_the_targets_choice():
    klein = HiddenStates(layers=(9, 18, 27), combine="concat")
    assert torch.equal(
        select_layers(klein).states, select_layers(klein, "9,18,27", "concat").states
    )
    assert choose_layers(klein).combine == "concat"
    no_norm = HiddenStates(layers=(-1,), final_norm=False)
    select_layers(no_norm)
    select_layers(no_norm, final_norm=True)
    assert no_norm.asked == [((36,), False), ((36,), True)]
    assert choose_layers(klein, " auto ", "mean").combine == "mean"


def test_auto_with_pictures_takes_the_layers_for_pictures():
    both = {"layers": (-2,), "layers_with_images": (-8,)}
    assert choose_layers(HiddenStates(image=True, **both)).indices == (29,)
    assert choose_layers(HiddenStates(image=False, **both)).indices == (35,)
    assert choose_layers(HiddenStates(image=True)).indices == (35,)


def test_a_filter_does_not_change_what_auto_means(tiny):
    h = tiny().encode("a red house", Image.new("RGB", (64, 64)), target="z-image")
    text = filter_tokens(h, "text")
    assert "image" not in text.token_map["role"]
    assert choose_layers(text).indices == choose_layers(h).indices == (29,)


@pytest.mark.parametrize("keep", ["all", "text", "image"])
def test_filtering_before_and_after_the_gate_is_the_same(tiny, keep):
    h = tiny().encode("a red house", Image.new("RGB", (64, 64)), target="krea2")
    before = select_layers(filter_tokens(h, keep))
    after = filter_tokens(select_layers(h), keep)
    assert torch.equal(before.states, after.states)
    assert before.token_map == after.token_map


def test_the_prefix_that_a_target_never_sees_is_left_out(tiny):
    h = tiny().encode("a red house", target="krea2", system="Something else.")
    t = select_layers(h)
    assert t.token_map["role"][0] == "text" and "system" not in t.token_map["role"]
    whole = torch.cat([h.layer(k) for k in h.target.layers], dim=-1)
    assert torch.equal(t.states, whole[:, h.dropped :])


def test_several_layers_join_the_targets_way_or_as_a_mean():
    assert choose_layers(HiddenStates(), "1,2").combine == "mean"
    assert choose_layers(HiddenStates(combine="concat"), "1,2").combine == "concat"
    assert choose_layers(HiddenStates(combine="concat"), "1").combine == "single"
    assert choose_layers(HiddenStates(combine="concat"), "1:0.5").combine == "weighted"


def test_choices_that_do_not_fit_are_refused_and_nothing_runs():
    h = HiddenStates()
    for arguments, words in (
        (("1,2", "single"), "single takes one layer, '1,2' means 2.*mean, weighted or concat"),
        (("1,2", "weighted"), "Layer 1 has no weight"),
        (("1:0.5", "mean"), "has weights, combine mean does not read them"),
        (("1", "sum"), "`combine` 'sum'.*" + ", ".join(COMBINES)),
        (("99",), "Layer 99 does not exist"),
        (("auto", "weighted"), "Layer -2 has no weight"),
    ):
        with pytest.raises(ValueError, match=words):
            select_layers(h, *arguments)
    with pytest.raises(ValueError, match="Target Test reads no layer.*`load_connector`"):
        select_layers(HiddenStates(layers=None))
    assert h.asked == []


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (",".join(["all"] * 1000), "`layers` names over 148 layers, and this model has 37"),
        ("all," * 100_000, "`layers` is a text of 400000 characters"),
        ("-2:1e999", "The weight '1e999' is larger than 1e\\+06"),
        ("-2:3e38, -3:3e38", "The weight '3e38' is larger"),
        ("9" * 4000, "'9+… is no layer of any model"),
        ("0:" + "9" * 4000, "'9+… is no layer of any model"),
        ("x" * 4000, "'x+… is no choice of layers"),
    ],
)
def test_what_no_choice_needs_is_refused_in_a_line(spec, said):
    with pytest.raises(ValueError, match=said) as caught:
        parse_layers(spec, 37)
    assert len(str(caught.value)) < 300
