"""The features loss: alignment by characters, and each kind of token by itself."""

import pytest
import torch

from vlm.train.align import align_characters
from vlm.train.features_loss import (
    PAD,
    SINK,
    WORD,
    FeatureWeights,
    Spread,
    TextStates,
    features_loss,
    kinds_of,
)

D = 6


def teacher(states, kinds=None, pooled=None):
    count = len(states)
    kinds = torch.tensor(kinds or [WORD] * count)
    return TextStates(states, kinds, tuple(range(count)), ((0, 1),) * count, pooled)


def rows(count, seed=0):
    return torch.randn(count, D, generator=torch.Generator().manual_seed(seed))


# --- alignment -----------------------------------------------------------------------------------


def test_the_same_spans_align_one_to_one():
    spans = [(0, 3), (3, 7), (7, 8)]
    assert torch.equal(align_characters(spans, spans), torch.eye(3))


def test_a_word_is_the_mean_of_its_pieces_by_their_characters():
    pairs = align_characters([(0, 1), (1, 4), (4, 9)], [(0, 4), (4, 6), (6, 9)])
    assert torch.equal(pairs, torch.tensor([[0.25, 0.75, 0], [0, 0, 1], [0, 0, 1]]))


def test_tokens_of_no_character_have_no_partner():
    pairs = align_characters([(0, 0), (0, 3)], [(0, 3), (3, 3), (5, 9)])
    assert torch.equal(pairs, torch.tensor([[0.0, 1.0], [0, 0], [0, 0]]))


# --- the loss ------------------------------------------------------------------------------------


def test_the_mean_costs_one_whatever_the_scale_of_a_dimension():
    """What a person wants of it: a massive dimension counts as every other."""
    states = rows(4000) * torch.tensor([1, 1, 1, 1, 1, 3000.0]) + 7
    spread = Spread.of([states])
    constant = spread.mean.expand_as(states)
    loss = features_loss(constant, teacher(states), spread)
    assert loss.total.item() == pytest.approx(1.0, abs=1e-3)
    half = constant.clone()
    half[:, :3] = states[:, :3]
    assert features_loss(half, teacher(states), spread).total.item() == pytest.approx(0.5, abs=1e-3)


def test_pads_and_sinks_count_by_themselves():
    states = rows(5)
    states[0] *= 1000
    kinds = [SINK, WORD, WORD, PAD, PAD]
    spread = Spread(torch.zeros(D), torch.full((D,), 2.0))
    given = states.clone()
    given[0] *= 0.5
    given[3:] += 4
    weights = FeatureWeights(pads=0.5, sinks=2.0)
    loss = features_loss(given, teacher(states, kinds), spread, weights=weights)
    found = {name: value.item() for name, value in loss.parts.items()}
    assert found == pytest.approx({"words": 0.0, "pads": 4.0, "sinks": 0.25})
    assert loss.total.item() == pytest.approx(0.5 * 4 + 2 * 0.25)


def test_sinks_are_found_among_what_is_no_pad():
    states = torch.ones(6, D)
    states[0] *= 50
    states[5] *= 50
    real = torch.tensor([True] * 5 + [False])
    assert kinds_of(states, real).tolist() == [SINK, WORD, WORD, WORD, WORD, PAD]


def test_the_pooled_vector_counts_where_both_have_one():
    states, spread = rows(3), Spread(torch.zeros(D), torch.ones(D))
    pooled = Spread(torch.zeros(2), torch.tensor([1.0, 10.0]))
    told = teacher(states, pooled=torch.tensor([1.0, 20.0]))
    given = torch.tensor([0.0, 0.0], requires_grad=True)
    loss = features_loss(states, told, spread, pooled=given, pooled_spread=pooled)
    assert loss.parts["pooled"].item() == pytest.approx((1 + 4) / 2)
    loss.total.backward()
    assert given.grad.abs().min() > 0
    assert "pooled" not in features_loss(states, teacher(states), spread, pooled=given).parts


def test_aligned_tokens_are_compared_where_characters_meet():
    student = rows(3, seed=1).requires_grad_()
    pairs = align_characters([(0, 2), (2, 4), (4, 6)], [(0, 4), (4, 6), (9, 9)])
    wanted = torch.stack([student[:2].mean(0), student[2], torch.full((D,), 99.0)]).detach()
    spread = Spread(torch.zeros(D), torch.ones(D))
    assert features_loss(student, teacher(wanted), spread, pairs).total.item() < 1e-12


@pytest.mark.parametrize(
    ("student", "pairs", "said"),
    [
        (torch.zeros(3, D + 1), None, "gives 7 dimensions, the text encoder 6"),
        (torch.zeros(2, D), None, "gives 2 tokens, the text encoder 3"),
        (torch.zeros(2, D), torch.zeros(3, 2), "shares a character"),
    ],
)
def test_refuses(student, pairs, said):
    with pytest.raises(ValueError, match=said):
        features_loss(student, teacher(rows(3)), Spread(torch.zeros(D), torch.ones(D)), pairs)


def test_a_spread_needs_something_that_varies():
    with pytest.raises(ValueError, match="at least 2 rows"):
        Spread.of([rows(1)])
    with pytest.raises(ValueError, match="nothing to learn"):
        Spread.of([torch.ones(4, D)])
