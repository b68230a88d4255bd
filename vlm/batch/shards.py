"""Shards: folders of conditioning files that a batch fills one after the other.

A shard is ``shard-00000/``: a conditioning file for each of its jobs, and ``index.jsonl`` with a
row for each. While it is filled it is called ``shard-00000.part``; it gets its name in one step
when everything is in it. Job files also appear in one step, so whatever has its name is whole, and
a run that was killed at any moment goes on where it was. Each file has a checksum, which a run that
goes on compares: a shard with a damaged file is opened again and the file is made again.
``failed.jsonl`` has a row for each job that failed; it goes when the shard is complete.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..conditioning.entries import Entry
from ..conditioning.file import load_about, save_conditioning
from ..files.whole_file import remove_parts, sync, sync_folder, write_whole
from ..logger import LOG
from ..quoted import reason, told
from ..tokens.tokens import Tokens
from .jobs import Job

INDEX, FAILED = "index.jsonl", "failed.jsonl"
ENDING = ".safetensors"
_SHARD = re.compile(r"shard-(\d{5,})(\.part)?")


@dataclass(frozen=True)
class Shard:
    """Some jobs and the folder for them.

    Attributes:
        number: From 0.
        jobs: In order.
        folder: Where they are when all are made.
    """

    number: int
    jobs: Sequence[Job]
    folder: Path

    @property
    def part(self) -> Path:
        """Where they are until then."""
        return self.folder.with_name(self.folder.name + ".part")

    def done(self) -> dict[str, str]:
        """Ids and digests of the jobs that are made and whole; nothing is changed on disk.

        Every file is read, for its checksum.

        Raises:
            ValueError: A folder of this name holds something of other jobs or options.
        """
        if self.folder.is_dir():
            rows = _read_index(self.folder)
            found = {row["id"]: row["job"] for row in rows}
            if list(found.items()) != [(job.id, job.digest) for job in self.jobs]:
                raise ValueError(_not_ours(self.folder))
            return held(self.folder, self.jobs)
        if not self.part.is_dir():
            return {}
        names = {INDEX, FAILED, *(job.id + ENDING for job in self.jobs)}
        try:
            files = list(self.part.iterdir())
        except FileNotFoundError:  # another worker has just finished it
            return self.done() if self.folder.is_dir() else {}
        for file in files:
            if file.name not in names and not _is_half(file):
                raise ValueError(_not_ours(self.part))
        return held(self.part, self.jobs)

    def missing(self) -> set[str]:
        """Ids of the jobs that are not made.

        Raises:
            ValueError: As `done`.
        """
        return {job.id for job in self.jobs} - self.done().keys()

    def failed(self) -> dict[str, str]:
        """Ids of jobs that an earlier run tried in vain, and why.

        A job that was changed since, or is made, is not among them.
        """
        try:
            lines = (self.part / FAILED).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError):
            return {}
        why = {(row["id"], row["job"]): row["error"] for row in map(_failure, lines) if row}
        found = {
            job.id: why[job.id, job.digest] for job in self.jobs if (job.id, job.digest) in why
        }
        made = held(self.part, [job for job in self.jobs if job.id in found])
        return {name: error for name, error in found.items() if name not in made}

    def record(self, job: Job, error: str) -> None:
        """Notes that a job failed.

        Raises:
            OSError: It cannot be written, or the folder is not there any more.
        """
        row = json.dumps({"id": job.id, "job": job.digest, "error": error}, ensure_ascii=False)
        with (self.part / FAILED).open("ab") as file:
            # A kill may have left half a line.
            file.write(f"\n{row}\n".encode("utf-8", "backslashreplace"))
            sync(file)

    def start(self, retry: bool = False) -> None:
        """Makes the folder to fill, without the half files of a run that was killed.

        Args:
            retry: Forgets which jobs failed.
        """
        self.part.mkdir(parents=True, exist_ok=True)
        remove_parts(self.part)  # not those that another worker is writing
        if retry:
            (self.part / FAILED).unlink(missing_ok=True)

    def settle(self) -> bool:
        """Whether all is made and whole.

        If so, a killed run's last steps are done and its remains are gone; a complete shard in
        which something is damaged becomes one to fill again.

        Raises:
            ValueError: As `done`.
        """
        complete = self.folder.is_dir()  # before: another worker may finish it meanwhile
        done = self.done()
        whole = len(done) == len(self.jobs)
        if complete and not (whole and self._has_true_index()):
            self._open_again(len(self.jobs) - len(done))
        if not whole:
            return False
        if not self.folder.is_dir():
            self.finish()
        shutil.rmtree(self.part, ignore_errors=True)
        _sweep(self.folder)
        return True

    def _has_true_index(self) -> bool:
        return (self.folder / INDEX).read_bytes() == _index(self.folder, self.jobs)

    def _open_again(self, damaged: int) -> None:
        """Takes the name of a complete shard away; what is whole in it stays."""
        what = f"{damaged} damaged of {len(self.jobs)} files" if damaged else f"a damaged {INDEX}"
        LOG.warning("%s holds %s, made again now. Check the disk.", self.folder, what)
        shutil.rmtree(self.part, ignore_errors=True)
        os.rename(self.folder, self.part)

    def finish(self) -> None:
        """Writes the index and gives the folder its name; another worker may have been faster."""
        try:
            _write_index(self.part, self.jobs)
            (self.part / FAILED).unlink(missing_ok=True)
            sync_folder(self.part)
            os.rename(self.part, self.folder)
            sync_folder(self.folder.parent)
        except OSError:
            if not self.folder.is_dir():
                raise
            shutil.rmtree(self.part, ignore_errors=True)
        _sweep(self.folder)  # what another worker was about to write


def cut(jobs: Sequence[Job], out: Path, size: int) -> list[Shard]:
    """Cuts jobs into shards, in order.

    Args:
        jobs: All of the batch.
        out: Folder of the shards.
        size: Jobs in each but the last.

    Raises:
        ValueError: `size` is below 1, or `out` holds shards that these jobs do not make.
    """
    if size < 1:
        raise ValueError(f"--shard-size is {size}, expected 1 or more.")
    starts = range(0, len(jobs), size)
    shards = [
        Shard(number, jobs[start : start + size], out / f"shard-{number:05d}")
        for number, start in enumerate(starts)
    ]
    for folder in sorted(out.glob("shard-*")):
        found = _SHARD.fullmatch(folder.name)
        if found and int(found[1]) >= len(shards):
            raise ValueError(_not_ours(folder))
    return shards


def held(folder: Path, jobs: Sequence[Job]) -> dict[str, str]:
    """Ids and digests of the jobs whose conditioning a folder holds.

    A file that is damaged, such as one cut short when the machine lost power or one with a flipped
    bit, counts as none. All of each is read.

    Raises:
        ValueError: A conditioning of the same name was made from another job or options.
    """
    found = {}
    for job in jobs:
        file = folder / (job.id + ENDING)
        try:
            about = load_about(file, whole=True)
        except (FileNotFoundError, ValueError):
            continue
        if about.get("job") != job.digest:
            raise ValueError(_not_ours(file))
        found[job.id] = job.digest
    return found


def save_job(tokens: Tokens, folder: Path, job: Job, notes: Mapping[str, Any]) -> None:
    """Writes the conditioning of a job, in one step and with the same bytes every time.

    Args:
        tokens: float32 ``[1, N, D]``.
        folder: Of the shard.
        job: Its id names the file; its digest goes into the notes.
        notes: How it was made; under `made` what its row of the index says.

    Raises:
        OSError: It cannot be written, or the folder is not there any more.
    """
    about = {**notes, "id": job.id, "job": job.digest}
    save_conditioning([Entry(tokens, {})], folder / (job.id + ENDING), about)


def index_row(folder: Path, job: Job) -> dict[str, Any]:
    """What the index says of a job, from the notes of its file."""
    name = job.id + ENDING
    about = load_about(folder / name)
    return {"id": job.id, "file": name, **about["made"], "job": about["job"]}


def _write_index(folder: Path, jobs: Sequence[Job]) -> None:
    write_whole(folder / INDEX, _index(folder, jobs))


def _index(folder: Path, jobs: Sequence[Job]) -> bytes:
    rows = [json.dumps(index_row(folder, job), ensure_ascii=False) for job in jobs]
    return "".join(row + "\n" for row in rows).encode()


def _read_index(folder: Path) -> list[dict[str, Any]]:
    try:
        if not (folder / INDEX).is_file():
            raise OSError("it is no file")
        lines = (folder / INDEX).read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
        missing = [row["file"] for row in rows if not (folder / row["file"]).is_file()]
        _ = [row["id"] + row["job"] for row in rows]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{folder / INDEX} cannot be read ({reason(error)}). Delete {folder}."
        ) from error
    if missing:
        raise ValueError(f"{folder} lacks {told(missing[0])}. Delete {folder} to make it again.")
    return rows


def _failure(line: str) -> dict[str, str] | None:
    """A row of the record of failures; None for what a kill or another hand left there."""
    try:
        row = json.loads(line)
        return {key: str(row[key]) for key in ("id", "job", "error")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_half(file: Path) -> bool:
    """Whether it was left by someone who was killed while writing; no id starts with a dot."""
    return file.name.startswith(".") and file.name.endswith(".part")


def _sweep(folder: Path) -> None:
    """Removes half files."""
    for file in folder.iterdir():
        if _is_half(file):
            file.unlink(missing_ok=True)


def _not_ours(place: Path) -> str:
    return (
        f"{place} was made from other jobs, options or shard size. Choose another --out, or delete "
        "it to make it again."
    )
