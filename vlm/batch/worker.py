"""Several workers: who of them this process is, as torchrun or Slurm say, and its device."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch

from ..arguments import whole
from ..devices import torch_device
from ..quoted import told


@dataclass(frozen=True)
class Worker:
    """One of several processes with the same jobs.

    Attributes:
        index: From 0.
        count: Of all.
    """

    index: int = 0
    count: int = 1

    def owns(self, shard: int) -> bool:
        """Whether a shard is this worker's; every shard is exactly one's."""
        return shard % self.count == self.index


def read_worker(text: str) -> Worker:
    """A worker as a person writes it: `0/4` is the first of four.

    Raises:
        ValueError: Another form, or an index that is not below the count.
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if not found or not int(found[1]) < int(found[2]):
        raise ValueError(
            f"--worker is {told(text)}, expected I/N with I from 0 to N - 1, such as 0/4."
        )
    return Worker(int(found[1]), int(found[2]))


def find_worker(environment: Mapping[str, str] = os.environ) -> Worker:
    """The worker that the environment says this process is.

    Tasks of a Slurm array count, and so do, inside each, the processes of torchrun (`RANK`,
    `WORLD_SIZE`) or of a srun step (`SLURM_PROCID`, `SLURM_STEP_NUM_TASKS`; `SLURM_NTASKS` is also
    there in a batch script that runs us once). Array tasks are counted from the smallest, so that
    a second run with another array works as well.

    Source: the manuals of torchrun and of Slurm's srun and sbatch, output environment variables.

    Raises:
        ValueError: An array with gaps.
    """
    inner = _pair(environment, "RANK", "WORLD_SIZE")
    if inner == Worker():
        inner = _pair(environment, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
    outer = _array(environment)
    return Worker(outer.index * inner.count + inner.index, outer.count * inner.count)


def find_device(name: str, environment: Mapping[str, str] = os.environ) -> torch.device:
    """A device by its name; `auto` = a graphics card if there is one, of several this process's.

    Raises:
        ValueError: No such device here, or one that does not compute.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        if found < 2:
            return torch.device("cuda" if found else "cpu")
        local = "LOCAL_RANK" if "LOCAL_RANK" in environment else "SLURM_LOCALID"
        return torch.device("cuda", _number(environment, local, "0") % found)
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and whole(number) is None):
        return torch_device(name)
    if (whole(number) or 0) >= found:
        raise ValueError(f"--device is {name}, and PyTorch finds {found} of these. Use cpu.")
    return torch.device(name)


def wait_for_others(environment: Mapping[str, str] = os.environ) -> None:
    """Under torchrun, waits until every worker is through; elsewhere nothing.

    torchrun kills all workers as soon as one ends with an error, which a failed job is.
    """
    if "TORCHELASTIC_RUN_ID" in environment and _number(environment, "WORLD_SIZE") > 1:
        torch.distributed.init_process_group("gloo", timeout=timedelta(days=7))
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _pair(environment: Mapping[str, str], index: str, count: str) -> Worker:
    if index not in environment or count not in environment:
        return Worker()
    worker = Worker(_number(environment, index), _number(environment, count))
    if worker.index >= worker.count:
        raise ValueError(
            f"The environment says that this process is number {worker.index} of {worker.count} "
            f"({index}, {count}), counted from 0. Unset both, or give --worker I/N."
        )
    return worker


def _number(environment: Mapping[str, str], name: str, default: str | None = None) -> int:
    """A number that torchrun or Slurm has written."""
    text = environment.get(name, default) or ""
    number = whole(text)
    if number is None:
        raise ValueError(
            f"The environment says {name} is {told(text)}, expected a number. Unset it, or give "
            "--worker I/N."
        )
    return number


def _array(environment: Mapping[str, str]) -> Worker:
    """The task of a Slurm array."""
    names = ("ID", "MIN", "MAX", "COUNT")
    if not all(f"SLURM_ARRAY_TASK_{name}" in environment for name in names):
        return Worker()
    task, least, most, count = (_number(environment, f"SLURM_ARRAY_TASK_{name}") for name in names)
    step = max(1, _number(environment, "SLURM_ARRAY_TASK_STEP", "1"))
    if (most - least) // step + 1 != count:
        raise ValueError(
            f"The Slurm array has {count} tasks between {least} and {most}, so they cannot be "
            "counted from their numbers. Use an array without gaps, such as --array=0-7, or give "
            "each task its --worker I/N."
        )
    return Worker((task - least) // step, count)
