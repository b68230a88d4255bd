"""`python -m vlm encode --jobs` and `--folder`: many at once, resumable."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..batch.encode import encode_shard
from ..batch.folder import list_jobs
from ..batch.jobs import Job, Provenance, read_jobs
from ..batch.recipe import Recipe
from ..batch.shards import Shard, cut
from ..batch.worker import Worker, find_worker, read_worker, wait_for_others
from ..model import VLM
from ..quoted import printable
from ..tokens.stats import load_stats
from .model import load_model
from .output import say
from .progress import JobBar, busy, quiet_transformers

SHARD_SIZE = 100
FAILED, STOPPED = 1, 130  # exit statuses


class Stop:
    """Whether a person has asked to stop.

    Attributes:
        asked: Set by the first interrupt.
    """

    asked = False


def run_many(options: argparse.Namespace, recipe: Recipe) -> int:
    """Runs the command for many prompts.

    Args:
        options: Of the command line.
        recipe: The same, as what holds where a job is silent.

    Returns:
        Exit status: 0, 1 where jobs failed now or before, 130 when interrupted.

    Raises:
        ValueError: Bad jobs, or an --out that holds something else.
        FileNotFoundError: The jobs file, the folder or the model is not there.
        OSError: A file cannot be written.
    """
    maker = Provenance(Path(options.model).name, options.dtype)
    if Path(options.out).suffix == ".safetensors":
        raise ValueError(f"--out is {options.out}, expected a folder: many jobs make many files.")
    jobs = find_jobs(options, recipe, maker)
    worker = read_worker(options.worker) if options.worker else find_worker()
    shards = cut(jobs, Path(options.out), options.shard_size or SHARD_SIZE)
    own = [shard for shard in shards if worker.owns(shard.number)]
    left = {shard.number: shard.missing() for shard in own if not shard.settle()}
    known: dict[str, str] = {}
    if not options.retry:
        known = dict(row for shard in own for row in shard.failed().items())
    open_ = [shard for shard in own if left.get(shard.number, set()) - known.keys()]
    total = sum(len(shard.jobs) for shard in own)
    resumed = total - sum(map(len, left.values()))
    for name, error in known.items():
        sys.stderr.write(f"failed before: {name}: {printable(error)}\n")
    failed = len(known)
    if open_:
        with busy("Loading the model"):
            quiet_transformers()
            model = load_model(options)
        with stop_between_jobs() as stop, JobBar(total, resumed + failed) as bar:
            failed += encode_all(model, open_, maker, bar, stop, options.retry)
        if stop.asked:
            sys.stderr.write("stopped; the same command goes on from here\n")
            return STOPPED
    tell(worker, total, resumed, failed, options.out)
    wait_for_others()
    return FAILED if failed else 0


def find_jobs(options: argparse.Namespace, recipe: Recipe, maker: Provenance) -> list[Job]:
    """The jobs of all workers, checked.

    Raises:
        ValueError: An option that many prompts cannot share, or bad jobs.
        FileNotFoundError: The jobs file, the folder or the statistics are not there.
    """
    own = [name for name in ("image", "video", "audio") if getattr(recipe, name)]
    if own:
        given = f"--{own[0]}"
        source = "--jobs" if options.jobs else "--folder"
        raise ValueError(f"{given} is of a single prompt, {source} of many. Drop one.")
    if recipe.stats:
        load_stats(recipe.stats)  # once, before every job would fail for it
    if options.jobs:
        outside = bool(options.allow_outside)
        return read_jobs(options.jobs, recipe, maker, options.root, outside)
    for name in ("root", "allow_outside"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} belongs to --jobs. Drop it.")
    return list_jobs(options.folder, recipe, maker)


def encode_all(
    model: VLM,
    shards: Sequence[Shard],
    maker: Provenance,
    bar: JobBar,
    stop: Stop,
    retry: bool = False,
) -> int:
    """Encodes until all is done or a person asks to stop; how many jobs failed."""
    failed = 0
    for shard in shards:
        for outcome in encode_shard(model, shard, maker, retry):
            if outcome.error:
                failed += 1
                bar.say(f"failed: {outcome.job.id}: {outcome.error}")
            bar.step()
            if stop.asked:
                return failed
        bar.finished(shard.folder.name if shard.folder.is_dir() else shard.part.name)
    return failed


def tell(worker: Worker, total: int, resumed: int, failed: int, out: str) -> None:
    """The last line."""
    who = f"worker {worker.index}/{worker.count}: " if worker.count > 1 else ""
    made = total - resumed - failed
    before = f", {resumed} were there" if resumed else ""
    say(f"{who}{made} of {total} jobs encoded{before}; in {out}")
    if failed:
        sys.stderr.write(
            f"{who}{failed} of {total} jobs failed, their shards end in .part; mend them and run "
            "the same command again with --retry\n"
        )


@contextmanager
def stop_between_jobs() -> Iterator[Stop]:
    """Lets the current job end at the first interrupt; the second is one as always."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, before)
        sys.stderr.write("stopping after this job; again to stop at once\n")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
