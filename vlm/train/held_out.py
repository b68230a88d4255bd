"""The losses of captions that are never trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .captions import Caption
from .features import Features
from .item import Item
from .objective import Objective
from .recipe import LOSSES
from .student import Student


class HeldOut:
    """The captions held out, and what the best constant costs on them."""

    def __init__(
        self,
        captions: Sequence[Caption],
        objective: Objective,
        prepare: Callable[[Caption], Item],
    ):
        """Takes the captions.

        Args:
            captions: None at all, perhaps.
            objective: The losses.
            prepare: What has the frozen models read one, with the same draws every time.
        """
        self._captions, self._objective, self._prepare = captions, objective, prepare
        self._constant: float | None = None

    @torch.no_grad()
    def __call__(self, student: Student) -> dict[str, float]:
        """The losses as they are now, one caption at a time.

        Returns:
            `held_out`: of the features loss on words, beside `constant`, what the best constant
            costs there; without that loss the weighted sum. `held_out_attention` and
            `held_out_flow` where they are learnt. Nothing where no captions are held out.
        """
        if not self._captions:
            return {}
        features = self._objective.losses.get(Features.name)
        items: list[Item] = []
        found: dict[str, list[float]] = {}
        for caption in self._captions:
            item = self._prepare(caption)
            total, parts = self._objective([item], student([item.reading]))
            for name, value in {"total": total, **parts}.items():
                found.setdefault(name, []).append(float(value))
            item.given.clear()  # attention outputs are gigabytes
            if self._constant is None and features is not None:
                items.append(item)
        means = {name: sum(values) / len(values) for name, values in found.items()}
        row = {f"held_out_{name}": means[name] for name in LOSSES if name in means}
        if not isinstance(features, Features):
            return {"held_out": means["total"], **row}
        if self._constant is None:
            self._constant = features.constant_loss(items)
        return {"held_out": means["words"], "constant": self._constant, **row}
