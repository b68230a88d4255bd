"""The captions of a run: those held out, and batches of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from .captions import Caption, Captions, caption_of, digest_of
from .recipe import TrainRecipe

Batch = list[Caption]


@dataclass(frozen=True)
class Data:
    """The captions of a recipe.

    Attributes:
        held_out: Never trained on.
        first: The first ones that are, to measure spreads on.
        loader: A torch DataLoader of batches, not yet prepared by accelerate.
        digest: SHA-256 of the captions; of a stream's files: names and sizes.
    """

    held_out: Batch
    first: Batch
    loader: Any
    digest: str


def read_data(recipe: TrainRecipe, processes: int = 1) -> Data:
    """Reads the captions, or opens their stream.

    Args:
        recipe: Names them.
        processes: That share a batch among them.

    Raises:
        FileNotFoundError, ValueError: As `Captions`; fewer captions than a batch has.
    """
    pictures = recipe.picture_key if recipe.needs_pictures else ""
    captions = Captions(recipe.captions, recipe.caption_key, pictures)
    needed = recipe.held_out + max(recipe.batch * processes, 2)
    some = recipe.held_out + max(recipe.calibrate, needed - recipe.held_out)
    read = list(islice(captions.read(), some if recipe.stream else None))
    if len(read) < needed:
        raise ValueError(
            f"{captions.place} holds {len(read)} captions; {recipe.held_out} are held out and a "
            f"batch takes {recipe.batch * processes}. Give {needed} at least, or lower held_out or "
            "batch."
        )
    held_out, rest = read[: recipe.held_out], read[recipe.held_out :]
    digest = _digest_of_files(captions) if recipe.stream else digest_of(read)
    source = _stream(captions, recipe) if recipe.stream else rest
    return Data(held_out, rest[: recipe.calibrate], _loader(source, recipe), digest)


def batches(loader: Any, epoch: int, done: int) -> Iterator[tuple[int, int, Batch]]:
    """Batches without end, each epoch in an order of its own.

    Args:
        loader: Prepared by accelerate.
        epoch: Where to begin.
        done: Batches of it that are left out.

    Yields:
        The epoch, how many of its batches are done with this one, and the batch.
    """
    from accelerate import skip_first_batches

    while True:
        loader.set_epoch(epoch)
        rest = skip_first_batches(loader, done) if done else loader
        for number, batch in enumerate(rest, done + 1):
            yield epoch, number, batch
        epoch, done = epoch + 1, 0


def _loader(source: Any, recipe: TrainRecipe) -> Any:
    shuffled = None if recipe.stream else True  # a stream has been shuffled already
    generator = torch.Generator().manual_seed(recipe.seed)
    return DataLoader(
        source, recipe.batch, shuffled, collate_fn=_as_captions, drop_last=True, generator=generator
    )


def _as_captions(rows: list[Any]) -> Batch:
    return [row if isinstance(row, Caption) else caption_of(row) for row in rows]


def _stream(captions: Captions, recipe: TrainRecipe) -> Any:
    rows = captions.rows().skip(recipe.held_out)
    return rows.shuffle(seed=recipe.seed, buffer_size=recipe.buffer)


def _digest_of_files(captions: Captions) -> str:
    facts = "\n".join(f"{file.name} {file.stat().st_size}" for file in captions.files)
    return hashlib.sha256(facts.encode()).hexdigest()
