"""Workers: every shard is exactly one's, as torchrun and Slurm count."""

import pytest
import torch

from vlm.batch.worker import Worker, find_device, find_worker, read_worker


def array(task, least, most, count, **more):
    names = {"ID": task, "MIN": least, "MAX": most, "COUNT": count, **more}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}


def torchrun(rank, size):
    return {"RANK": str(rank), "WORLD_SIZE": str(size)}


def srun(index, size):
    return {"SLURM_PROCID": str(index), "SLURM_STEP_NUM_TASKS": str(size)}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        (torchrun(2, 4), (2, 4)),
        (srun(1, 3), (1, 3)),
        ({**torchrun(5, 8), **srun(0, 2)}, (5, 8)),  # srun starts torchrun on two machines
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),  # a batch script, not a step
        (array(3, 0, 7, 8), (3, 8)),
        (array(12, 10, 14, 5), (2, 5)),
        (array(6, 0, 9, 4, STEP=3), (2, 4)),
        (array(3, 3, 3, 1), (0, 1)),
        ({**array(2, 1, 3, 3), **torchrun(1, 4)}, (5, 12)),
        ({**array(0, 0, 1, 2), **srun(1, 2)}, (1, 4)),
    ],
)
def test_who_this_is(environment, expected):
    assert find_worker(environment) == Worker(*expected)


def test_an_array_with_gaps():
    with pytest.raises(ValueError, match="without gaps"):
        find_worker(array(9, 1, 9, 3))


def test_by_hand():
    assert read_worker("0/4") == Worker(0, 4) and read_worker(" 3 / 4 ") == Worker(3, 4)
    for text in ("4/4", "1", "-1/4", "1/0", "a/b", "1/2/3", "", "1/" + "9" * 5000):
        with pytest.raises(ValueError, match="such as 0/4"):
            read_worker(text)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_shard_is_exactly_ones(count):
    workers = [Worker(index, count) for index in range(count)]
    assert all(sum(worker.owns(shard) for worker in workers) == 1 for shard in range(20))


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for found, environment, expected in [
        (1, {"LOCAL_RANK": "1"}, "cuda"),
        (4, {"LOCAL_RANK": "2"}, "cuda:2"),
        (4, {"SLURM_LOCALID": "3"}, "cuda:3"),
        (4, {"LOCAL_RANK": "5"}, "cuda:1"),
        (4, {}, "cuda:0"),
    ]:
        monkeypatch.setattr(torch.cuda, "device_count", lambda found=found: found)
        assert find_device("auto", environment) == torch.device(expected)
    assert find_device("cuda:3", {}) == torch.device("cuda:3")
    with pytest.raises(ValueError, match="--device is cuda:4, and PyTorch finds 4"):
        find_device("cuda:4", {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto", {"LOCAL_RANK": "2"}) == torch.device("cpu")
    assert find_device("cpu", {}) == torch.device("cpu")
    with pytest.raises(ValueError, match="finds 0 of these"):
        find_device("cuda", {})
    for name in ("toaster", "meta", "hpu", "cuda:x", "cuda:-1", "", "cpu\0", "x" * 5000):
        with pytest.raises(ValueError, match="no device '.*here that computes") as caught:
            find_device(name, {})
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "a", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "9" * 5000},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"SLURM_PROCID": "-1", "SLURM_STEP_NUM_TASKS": "2"},
        {f"SLURM_ARRAY_TASK_{name}": "\x1b[31m" for name in ("ID", "MIN", "MAX", "COUNT")},
    ],
)
def test_numbers_of_the_environment_that_are_none(environment):
    with pytest.raises(ValueError, match="The environment says .*--worker I/N") as caught:
        find_worker(environment)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300
