"""The weights as a memory manager sees them, and what a run is expected to need."""

import pytest

from vlm.running.backbone import TEXT, VISION


@pytest.mark.slow
def test_every_weight_counts_once(v):
    """ComfyUI sums state_dict() to know how much memory a model takes."""
    counted = sum(tensor.nbytes for tensor in v.backbone.state_dict().values())
    assert counted == sum(weight.nbytes for weight in v.backbone.parameters())


def test_there_is_no_lm_head(v):
    names = [name for name, _ in v.backbone.named_parameters()]
    assert names and not any("lm_head" in name for name in names)


def test_each_part_counts_its_weights_once(v):
    parts = v.backbone.parts.values()
    counted = sum(weight.nbytes for part in parts for weight in part.state_dict().values())
    assert counted == sum(weight.nbytes for weight in v.backbone.parameters())


def test_a_larger_run_is_expected_to_need_more(v):
    few, many = (v.backbone.run_bytes(TEXT, tokens, 0) for tokens in (10, 1000))
    assert 0 < few < many
    assert v.backbone.run_bytes(VISION, 10, 10) < v.backbone.run_bytes(VISION, 10, 100_000)
