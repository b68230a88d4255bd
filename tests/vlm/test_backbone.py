"""The weights as a memory manager sees them, and what a run is expected to need."""

import torch


def test_every_weight_counts_once(v):
    """ComfyUI sums state_dict() to know how much memory a model takes."""
    counted = sum(tensor.nbytes for tensor in v.backbone.state_dict().values())
    assert counted == sum(weight.nbytes for weight in v.backbone.parameters())


def test_there_is_no_lm_head(v):
    names = [name for name, _ in v.backbone.named_parameters()]
    assert names and not any("lm_head" in name for name in names)


def test_a_larger_run_is_expected_to_need_more(v):
    few, many = v.backbone.run_bytes(10, 0), v.backbone.run_bytes(1000, 0)
    assert 0 < few < many
    assert v.backbone.run_bytes(10, 100_000) > few


def test_the_final_norm_is_a_copy_of_its_own(v):
    norm = v.backbone.final_norm()
    assert torch.equal(norm.weight, v.backbone.text.norm.weight)
    assert norm.weight.data_ptr() != v.backbone.text.norm.weight.data_ptr()
