"""What a step will take, found before the first one: the step is run without its numbers.

torch's meta device holds shapes alone, so that a step of FLUX.1 is walked through in seconds: its
tensors are counted while they live, and its operations as they are called.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .dit import META
from .item import Item
from .objective import Loss, Objective
from .student import Reading, Student

SIDE, TIMES = 2048, 3  # of the matrices by which a device's speed is measured


@dataclass(frozen=True)
class Forecast:
    """What a step takes of the device where the connector learns.

    Attributes:
        memory: Bytes of tensors when it is fullest, the models' weights included. What libraries
            take beside tensors is not in it.
        operations: Of its matrix products and attention, a multiplication and an addition being
            two.
        seconds: If the device did these as fast as it multiplies large matrices: the least.
    """

    memory: int
    operations: int
    seconds: float


class LiveBytes(TorchDispatchMode):
    """Counts the tensors that are made inside, while they live.

    Attributes:
        peak: Bytes of all of them when they were most.
    """

    def __init__(self) -> None:
        """Nothing is counted yet."""
        super().__init__()
        self.peak = self._now = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and counts what it made."""
        made = func(*args, **(kwargs or {}))
        before = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs))
                  if isinstance(each, torch.Tensor)}  # fmt: skip
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor) and each.device.type == META.type:
                storage = each.untyped_storage()
                if id(storage) not in before:
                    self._count(storage)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return

        def gone(_: Any) -> None:
            del self._known[key]
            self._now -= size

        self._known[key] = weakref.ref(storage, gone)
        self._now += size
        self.peak = max(self.peak, self._now)


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention in one operation, as every device has it; of shapes alone torch takes it apart.

    Taken apart it holds a matrix of tokens by tokens for each head, gigabytes for FLUX.1. A mode of
    torch would be off while checkpointing computes blocks again.
    """
    whole = F.scaled_dot_product_attention

    def call(query: Any, key: Any, value: Any, attn_mask: Any = None, *more: Any, **by: Any) -> Any:
        if query.is_meta and attn_mask is None:
            return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]
        return whole(query, key, value, attn_mask, *more, **by)

    F.scaled_dot_product_attention = call
    try:
        yield
    finally:
        F.scaled_dot_product_attention = whole


def forecast(
    student: Student,
    items: Sequence[Item],
    losses: Sequence[Loss],
    optimizer: Callable[[Student], torch.optim.Optimizer],
    readers: Sequence[nn.Module],
) -> Forecast:
    """Walks through steps of shapes alone.

    Args:
        student: The connector as it begins.
        items: The captions of a step.
        losses: Of the run.
        optimizer: Makes one of a connector.
        readers: The frozen models that read the captions.
    """
    walker = copy.deepcopy(student).to(META)
    shadows = [loss.shadow() for loss in losses]
    objective = Objective(shadows, {loss.name: 1.0 for loss in shadows})
    read = [item.reading for item in items]
    shapes = [
        replace(each, layers=each.layers.to(META), real=torch.ones_like(each.real)) for each in read
    ]

    def walk(steps: int) -> None:
        _walk(walker, shapes, items, objective, optimizer(walker), steps)

    peak, operations = _counted(walk)
    first = next(student.parameters())
    frozen = {*readers, *(module for loss in losses for module in loss.frozen)}
    here = [student, *(each for each in frozen if _device_of(each) == first.device)]
    memory = peak + sum(reading.layers.nbytes for reading in read)
    memory += sum(each.nbytes for module in here for each in module.parameters())
    values = sum(each.numel() for module in readers for each in module.parameters())
    operations += 2 * values * sum(reading.layers.shape[2] for reading in read)
    dtype = next((each.dtype for module in frozen for each in module.parameters()), first.dtype)
    return Forecast(memory, operations, operations / measured_speed(first.device, dtype))


def _counted(walk: Callable[[int], None]) -> tuple[int, int]:
    """Most bytes of tensors in a step, and its operations.

    They are counted apart: torch's counter holds on to what checkpointing computes again.
    """
    with fused_attention():
        with LiveBytes() as live:
            walk(2)  # the second finds the optimiser's states there
        with FlopCounterMode(display=False) as counted:
            walk(1)
    return live.peak, counted.get_total_flops()


def _walk(
    walker: Student,
    shapes: Sequence[Reading],
    items: Sequence[Item],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    steps: int,
) -> None:
    """Some steps on shapes."""
    for _ in range(steps):
        ready = [objective.prepare(item) for item in items]
        objective(ready, walker(shapes))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        for item in ready:
            item.given.clear()


def _device_of(module: nn.Module) -> torch.device | None:
    return next((each.device for each in module.parameters()), None)


def measured_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a device, by products of large matrices."""
    matrix = torch.randn(SIDE, SIDE, device=device).to(dtype)
    seconds = []
    for _ in range(TIMES):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for it
        seconds.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(seconds)
