"""What a step will take, foretold: beside the tensors and the operations of a real one."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vlm.train.data import read_data
from vlm.train.models import make_accelerator
from vlm.train.run import Run, train


def live_bytes(work):
    """Most bytes of tensors alive at once during the work, as torch's profiler has them."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    events = watched.profiler.kineto_results.events()
    level = peak = 0
    for _, size in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
        level += size
        peak = max(peak, level)
    return peak


@pytest.mark.parametrize(
    "changes",
    [
        {"features": 1.0},
        {"attention": 1.0},
        {"attention": 1.0, "checkpointing": True},
        {"connector": "lap", "layers": "1,3", "heads": 4},
    ],
    ids=["features", "attention", "checkpointing", "lap"],
)
def test_a_step_takes_what_was_foretold(recipe, z_image, changes):
    given = recipe(**{"dit": str(z_image), "size": 256, "batch": 2, **changes})
    run = Run(given, read_data(given), make_accelerator(given))
    foretold = run.forecast()
    steps = run._batches()
    run._update(next(steps))
    losses = run._objective.losses.values()
    held = (run._reader.vlm.backbone.text, *run._teacher.modules, run._student,
            *(module for loss in losses for module in loss.frozen))  # fmt: skip
    before = sum(each.nbytes for module in held for each in module.parameters())
    before += sum(each.nbytes for state in run._optimizer.state.values()
                  for each in state.values())  # fmt: skip
    peak = live_bytes(lambda: run._update(next(steps)))
    with FlopCounterMode(display=False) as counted:  # holds on to what is computed again
        run._update(next(steps))
    assert before + peak <= 1.1 * foretold.memory
    assert foretold.memory <= 1.25 * (before + peak)
    assert counted.get_total_flops() <= 1.05 * foretold.operations
    assert foretold.seconds > 0


def test_checkpointing_is_foretold_to_take_less(recipe, z_image):
    def memory(checkpointing):
        given = recipe(
            dit=str(z_image), size=512, batch=1, attention=1.0, blocks="layers.0",
            checkpointing=checkpointing,
        )  # fmt: skip
        return Run(given, read_data(given), make_accelerator(given)).forecast().memory

    assert memory(True) < 0.8 * memory(False)


def test_it_is_told_before_the_first_step_and_changes_no_bit(recipe, tmp_path):
    told = []
    with_it = train(recipe(), told.append, told.append)
    assert told[0].memory > 0 and told[1]["step"] == 1
    without = train(recipe(out=str(tmp_path / "other")))
    assert with_it.log == without.log
    assert torch.is_grad_enabled()
