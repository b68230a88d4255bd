"""X2I's attention loss: golden values of the published code, its gradient, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlm.train.attention_loss import attention_loss, block_loss

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "distillation.safetensors")
STREAMS = ("image", "text", "single")


def outputs(stream, side):
    return list(GOLDEN[f"distill.{stream}.{side}"].unbind(1))


def close(found, wanted):
    return (found - wanted).abs().max() <= 1e-5 * max(1.0, wanted.abs().max())


@pytest.mark.parametrize(("temperature", "key"), [(3.0, "loss"), (1.0, "loss_t1")])
@pytest.mark.parametrize("stream", STREAMS)
def test_golden_per_block(stream, temperature, key):
    pairs = zip(outputs(stream, "student"), outputs(stream, "teacher"), strict=True)
    found = torch.stack([block_loss(ours, theirs, temperature) for ours, theirs in pairs])
    assert close(found, GOLDEN[f"distill.{stream}.{key}"])


def test_golden_total():
    student, teacher = ([t for s in STREAMS for t in outputs(s, side)] for side in
                        ("student", "teacher"))  # fmt: skip
    assert close(attention_loss(student, teacher), GOLDEN["distill.total"][0])


def test_every_golden_key_is_checked():
    checked = {f"distill.{s}.{k}" for s in STREAMS for k in
               ("student", "teacher", "loss", "loss_t1")}  # fmt: skip
    assert set(GOLDEN) == checked | {"distill.total"}


def test_descending_it_finds_the_teacher():
    """What a person wants of it: where it is near 0, the directions of the outputs agree."""
    torch.manual_seed(0)
    teacher = torch.randn(2, 5, 16)
    student = torch.randn(2, 5, 16, requires_grad=True)
    optimizer = torch.optim.Adam([student], lr=0.05)
    first = attention_loss([student], [teacher]).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = attention_loss([student], [teacher])
        loss.backward()
        optimizer.step()
    cosine = torch.cosine_similarity(
        student - student.mean(-1, keepdim=True), teacher - teacher.mean(-1, keepdim=True), dim=-1
    )
    assert loss.item() < 1e-3 * first and cosine.min() > 0.99


def test_no_gradient_reaches_the_teacher():
    student, teacher = (torch.randn(1, 3, 8, requires_grad=True) for _ in range(2))
    attention_loss([student], [teacher]).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_a_batch_counts_as_its_mean():
    one, other = torch.randn(1, 3, 8), torch.randn(1, 3, 8)
    twice = attention_loss([one.expand(2, -1, -1)], [other.expand(2, -1, -1)])
    torch.testing.assert_close(twice, attention_loss([one], [other]))


@pytest.mark.parametrize(
    ("student", "teacher", "temperature", "said"),
    [
        ([], [], 3.0, "0 attention outputs"),
        ([torch.zeros(1, 2, 4)], [], 3.0, "the teacher 0"),
        ([torch.zeros(1, 2, 4)], [torch.zeros(1, 3, 4)], 3.0, "same number of tokens"),
        ([torch.zeros(1, 2, 4)], [torch.zeros(1, 2, 4)], 0.0, "expected a number above 0"),
    ],
)
def test_refuses(student, teacher, temperature, said):
    with pytest.raises(ValueError, match=said):
        attention_loss(student, teacher, temperature)
