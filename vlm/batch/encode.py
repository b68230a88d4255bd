"""The way of many jobs through one model: what is made is written, what fails is told."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import torch

from ..logger import LOG
from ..model import VLM
from .jobs import Job, Provenance
from .recipe import Inputs, Made, Recipe, make, notes_of, read_inputs
from .shards import Shard, save_job

# Errors whose text is a sentence for a person; what else a job raises is told with its kind.
_SAID = (ValueError, TypeError, OSError, torch.cuda.OutOfMemoryError)


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: The job.
        error: What went wrong, in a line; empty where its file is written.
    """

    job: Job
    error: str = ""


def encode_shard(
    model: VLM, shard: Shard, maker: Provenance, retry: bool = False
) -> Iterator[Outcome]:
    """Makes what a shard lacks, and finishes it where nothing failed.

    Args:
        model: Who encodes.
        shard: Of whose jobs some may be made already. Those that fail are recorded in its folder.
        maker: The model as the digests know it.
        retry: Also tries the jobs that an earlier run recorded as failed.

    Yields:
        The outcome of each job that was missing, as soon as it is written. A caller may stop at any
        of them.

    Raises:
        ValueError: The shard's folder holds something of other jobs.
        OSError: A file cannot be written, such as on a full disk.
    """
    done = shard.done()
    try:
        shard.start(retry)
        failed = shard.failed()
        whole = not failed
        for outcome in encode_jobs(model, shard.jobs, done, shard.part, maker, failed):
            if outcome.error:
                whole = False
                shard.record(outcome.job, outcome.error)
            yield outcome
        if whole:
            shard.finish()
    except OSError:
        # Another worker was given the same shard and was faster: its files are as good as ours.
        if not shard.folder.is_dir():
            raise


def encode_jobs(
    model: VLM,
    jobs: Sequence[Job],
    done: Container[str],
    folder: Path,
    maker: Provenance,
    failed: Container[str] = (),
) -> Iterator[Outcome]:
    """Makes the conditioning files that are missing, in order.

    Jobs in a row that differ in their words alone are a group: its pictures are read once, and what
    comes before the words runs once (the model's prefix cache). Rounding differs between a prompt
    that ran as a whole and one whose beginning was known, so the cache is emptied before a group,
    and a group of which the first jobs are made already begins with them all the same: each job
    then meets the cache it would have met in a run that was never stopped, and gets the same bits.
    A job that fails empties the cache, so that one that is known to fail can be left out.

    Args:
        model: Who encodes.
        jobs: In order.
        done: Ids of those whose files are there.
        folder: Where the files go.
        maker: The model as the digests know it.
        failed: Ids of those that are known to fail and are not tried.

    Yields:
        The outcome of each job that was tried, as soon as it is written.

    Raises:
        OSError: A file cannot be written.
    """
    for _, group in groupby(jobs, key=lambda job: _without_words(job.recipe)):
        alike = list(group)
        while alike and (alike[-1].id in done or alike[-1].id in failed):
            alike.pop()
        if alike:
            yield from _encode_group(model, alike, done, folder, maker, failed)


def _encode_group(
    model: VLM,
    jobs: Sequence[Job],
    done: Container[str],
    folder: Path,
    maker: Provenance,
    failed: Container[str],
) -> Iterator[Outcome]:
    try:
        inputs, failure = read_inputs(jobs[0].recipe), ""
    except Exception as error:  # whatever it is, the next group may be good
        inputs, failure = None, _line(error)
    if inputs is None:
        tried = [job for job in jobs if job.id not in done and job.id not in failed]
        yield from (Outcome(job, failure) for job in tried)
        return
    model.prefix_cache.clear()
    warm = False  # whether the cache is as the last job that was made left it
    for job in jobs:
        if warm and job.id in done:
            continue
        made = "" if job.id in failed else _try(model, job.recipe, inputs)
        warm = isinstance(made, Made)
        if not warm:
            model.prefix_cache.clear()
        if job.id in failed:
            continue
        if job.id in done:
            continue
        if isinstance(made, Made):
            save_job(made.tokens, folder, job, _notes(made, job.recipe, maker))
        yield Outcome(job, made if isinstance(made, str) else "")


def _try(model: VLM, recipe: Recipe, inputs: Inputs) -> Made | str:
    """The conditioning, or what one job did wrong, in a line.

    The error itself does not leave: its traceback and those of its causes hold the tensors of the
    failed run, and the next job needs their memory.
    """
    try:
        return make(model, recipe, inputs)
    except Exception as error:  # any: one bad job never ends the batch
        return _line(error)


def _notes(made: Made, recipe: Recipe, maker: Provenance) -> dict:
    choice = {"layers": list(made.choice.indices), "combine": made.choice.combine}
    facts = {"tokens": made.tokens.n, "width": made.tokens.width, **choice}
    return {**notes_of(recipe, maker.model, maker.dtype), "made": facts}


def _without_words(recipe: Recipe) -> Recipe:
    return replace(recipe, text="", reference=None)


def _line(error: Exception) -> str:
    """What went wrong, in a line that is never empty."""
    LOG.debug("A job failed: %s", error, exc_info=error)
    if isinstance(error, MemoryError):
        return "This job needs more memory than there is. Lower max_pixels, or shorten its text."
    text = " ".join(str(error).split())
    return text if text and isinstance(error, _SAID) else f"{type(error).__name__}: {text}"
