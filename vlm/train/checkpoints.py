"""Checkpoints of a run: folders that are whole or not there."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from ..quoted import reason

_NAME = re.compile(r"step-(\d{8})")


class Progress:
    """How far a run has come.

    Attributes:
        updates: Updates of the weights done.
        epoch: Times that all captions were seen.
        batches: Batches done since then.
        log: One row for each update and each held-out loss.
    """

    def __init__(self) -> None:
        """The beginning."""
        self.updates = self.epoch = self.batches = 0
        self.log: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it over."""
        vars(self).update(state)


class Checkpoints:
    """The checkpoints in a folder, written by accelerate."""

    def __init__(self, folder: Path, keep: int, accelerator: Any):
        """Takes the folder, how many stay, and what holds model, optimiser and generators."""
        self.folder, self._keep, self._accelerator = folder, keep, accelerator

    @property
    def newest(self) -> Path | None:
        """The one that a run goes on from."""
        found = self._all()
        return found[-1] if found else None

    def save(self, updates: int) -> Path:
        """Writes one, under another name until it is whole, and removes the oldest.

        Raises:
            OSError: It cannot be written; the older ones are still there.
        """
        accelerator = self._accelerator
        final = self.folder / f"step-{updates:08d}"
        part = self.folder / f".{final.name}.part"
        if accelerator.is_main_process:
            shutil.rmtree(part, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
        accelerator.wait_for_everyone()
        try:
            accelerator.save_state(str(part))
        except Exception as error:  # torch says of a full disk what it likes
            shutil.rmtree(part, ignore_errors=True)
            newest = self.newest
            there = f"{newest.name} is still there" if newest else "there is none before it"
            raise OSError(
                f"The checkpoint {final} could not be written ({reason(error)}); {there}. Is "
                "the disk full? Make room, and start the same command again."
            ) from error
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if final.exists():  # a run that was killed behind this one came here again
                shutil.rmtree(final)
            os.replace(part, final)
            for old in self._all()[: -self._keep]:
                shutil.rmtree(old, ignore_errors=True)
        accelerator.wait_for_everyone()
        return final

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = (each for each in self.folder.iterdir() if _NAME.fullmatch(each.name))
        return sorted(found, key=lambda each: each.name)
