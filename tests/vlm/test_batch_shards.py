"""Shards on disk: nothing half, nothing of other jobs, the same bytes every time."""

import json
import os
import shutil
from collections.abc import Sequence

import pytest
import torch

from vlm.batch.jobs import Job
from vlm.batch.recipe import Recipe
from vlm.batch.shards import INDEX, Shard, cut, save_job
from vlm.conditioning import file as conditioning_file
from vlm.conditioning.file import load_about, load_conditioning
from vlm.tokens.tokens import Tokens

JOBS = [Job(f"job-{number}", Recipe(text="a"), f"digest {number}") for number in range(5)]
NOTES = {"text": "家", "made": {"tokens": 3, "width": 4, "layers": [9], "combine": "single"}}


def tokens_of(job):
    return Tokens(torch.full((1, 3, 4), float(job.id[-1])), None)


def fill(shard, jobs=None):
    shard.start()
    for job in shard.jobs if jobs is None else jobs:
        save_job(tokens_of(job), shard.part, job, NOTES)


@pytest.fixture
def shards(tmp_path):
    """Shards of 2, 2 and 1 jobs."""
    return cut(JOBS, tmp_path, 2)


def test_cut(shards, tmp_path):
    assert ["".join(job.id[-1] for job in shard.jobs) for shard in shards] == ["01", "23", "4"]
    assert [shard.folder.name for shard in shards] == [f"shard-0000{i}" for i in range(3)]
    with pytest.raises(ValueError, match="--shard-size is 0"):
        cut(JOBS, tmp_path, 0)


def test_a_shard_from_start_to_end(shards):
    shard = shards[0]
    assert not shard.done() and not shard.settle() and not shard.part.exists()
    fill(shard, JOBS[:1])
    assert shard.done() == {"job-0": "digest 0"} and not shard.settle()
    fill(shard, JOBS[1:2])
    shard.finish()
    assert shard.settle() and not shard.part.exists()
    assert shard.done() == {"job-0": "digest 0", "job-1": "digest 1"}
    rows = [json.loads(line) for line in (shard.folder / INDEX).read_text().splitlines()]
    assert rows[1] == {
        "id": "job-1",
        "file": "job-1.safetensors",
        "tokens": 3,
        "width": 4,
        "layers": [9],
        "combine": "single",
        "job": "digest 1",
    }
    (entry,) = load_conditioning(shard.folder / rows[1]["file"])
    assert torch.equal(entry.tokens.states, tokens_of(JOBS[1]).states)
    assert load_about(shard.folder / rows[1]["file"])["text"] == "家"


def test_the_same_bytes_every_time(tmp_path):
    for turn in range(20):  # the library that writes the files shuffles their metadata
        (tmp_path / str(turn)).mkdir()
        save_job(tokens_of(JOBS[0]), tmp_path / str(turn), JOBS[0], NOTES)
    files = [file.read_bytes() for file in tmp_path.rglob("*.safetensors")]
    assert len(files) == 20 and len(set(files)) == 1


def test_a_killed_runs_last_steps_are_done(shards):
    shard = shards[0]
    fill(shard)  # killed before its name was given
    (shard.part / ".half.part").write_bytes(b"half")
    assert shard.settle() and shard.folder.is_dir() and not shard.part.exists()
    assert not list(shard.folder.glob(".*"))
    shard.part.mkdir()  # another worker came too late and was killed
    (shard.folder / ".half.part").write_bytes(b"half")
    assert shard.settle() and not shard.part.exists() and not list(shard.folder.glob(".*"))


def test_half_files_go_and_damaged_ones_are_made_again(shards):
    shard = shards[0]
    fill(shard)
    (shard.part / ".job-0.0123abcd.part").write_bytes(b"half")
    file = shard.part / "job-1.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    assert list(shard.done()) == ["job-0"]
    shard.start()
    assert not (shard.part / ".job-0.0123abcd.part").exists()


def test_the_slower_of_two_accepts(shards, tmp_path):
    shard = shards[0]
    fill(shard)
    shutil.copytree(shard.part, tmp_path / "copy")
    shard.finish()
    shutil.copytree(tmp_path / "copy", shard.part)
    shard.finish()
    assert shard.settle() and not shard.part.exists() and len(shard.done()) == 2
    with pytest.raises(FileNotFoundError):
        save_job(tokens_of(JOBS[0]), shard.part, JOBS[0], NOTES)


def test_a_finish_that_fails_says_so(shards, monkeypatch):
    def refuse(*arguments):
        raise PermissionError("no")

    fill(shards[0])
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        shards[0].finish()
    assert len(shards[0].done()) == 2


def renamed(**changes):
    return [Job(**{**vars(job), **changes}) if job is JOBS[0] else job for job in JOBS]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("changes", [{"digest": "other"}, {"id": "other"}])
def test_other_jobs_are_refused(shards, tmp_path, changes, finished):
    fill(shards[0])
    if finished:
        shards[0].finish()
    before = sorted(tmp_path.rglob("*"))
    other = cut(renamed(**changes), tmp_path, 2)[0]
    for check in (other.done, other.settle):
        with pytest.raises(ValueError, match="other jobs, options or shard size. Choose another"):
            check()
    assert sorted(tmp_path.rglob("*")) == before


class Counted(Sequence):
    """Jobs that count how often one is looked at."""

    def __init__(self, jobs):
        self.jobs, self.looks = jobs, 0

    def __len__(self):
        return len(self.jobs)

    def __getitem__(self, index):
        self.looks += 1
        return self.jobs[index]


def test_asking_what_is_done_grows_with_the_jobs_and_no_faster(tmp_path):
    jobs = Counted([Job(f"{n:04d}", Recipe(text="a"), "d") for n in range(200)])
    shard = Shard(0, jobs, tmp_path / "shard-00000")
    fill(shard)
    jobs.looks = 0
    assert len(shard.done()) == 200
    assert jobs.looks <= 4 * 200


def test_other_sizes_are_refused(shards, tmp_path):
    for shard in shards:
        fill(shard)
        shard.finish()
    with pytest.raises(ValueError, match="shard-00002 was made from other jobs"):
        cut(JOBS[:4], tmp_path, 2)
    with pytest.raises(ValueError, match="shard-00001 was made from other jobs"):
        cut(JOBS, tmp_path, 5)
    with pytest.raises(ValueError, match="shard-00000 was made from other jobs"):
        cut(JOBS, tmp_path, 1)[0].done()
    with pytest.raises(ValueError, match="shard-00002 was made from other jobs"):
        cut([*JOBS, Job("more", Recipe(text="a"), "more")], tmp_path, 2)[2].done()


def test_damaged_shards_are_told(shards):
    for shard in shards:
        fill(shard)
        shard.finish()
    (shards[0].folder / "job-1.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks .job-1.safetensors.. Delete .*shard-00000"):
        shards[0].done()
    (shards[1].folder / INDEX).write_text("{}\n")
    with pytest.raises(ValueError, match="cannot be read .*Delete .*shard-00001"):
        shards[1].done()
    (shards[2].folder / INDEX).unlink()
    with pytest.raises(ValueError, match="cannot be read .*Delete .*shard-00002"):
        shards[2].done()


# Windows has no pipes in folders.
ENDLESS = [*([os.mkfifo] if hasattr(os, "mkfifo") else []), lambda f: f.write_text("[" * 10**6)]


@pytest.mark.parametrize("write", ENDLESS)
def test_an_index_that_never_ends_is_told(shards, write):
    fill(shards[0])
    shards[0].finish()
    index = shards[0].folder / INDEX
    index.unlink()
    write(index)
    with pytest.raises(ValueError, match="cannot be read .*Delete .*shard-00000"):
        shards[0].done()


@pytest.mark.parametrize("finished", [True, False])
def test_a_flipped_bit_is_found_and_made_again(shards, tmp_path, finished, caplog):
    """Wherever in a file it lies: no position makes a whole file, or one of other jobs."""
    shard = shards[0]
    fill(shard)
    if finished:
        shard.finish()
    place = shard.folder if finished else shard.part
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    file = place / "job-1.safetensors"
    size = len(before[file.name])
    for at in range(0, size * 8, 37):
        data = bytearray(before[file.name])
        data[at // 8] ^= 1 << at % 8
        file.write_bytes(data)
        assert list(shard.done()) == ["job-0"], at
    assert not shard.settle() and not shard.folder.exists()
    assert ("job-1" not in shard.done()) and ("1 damaged of 2 files" in caplog.text) is finished
    fill(shard, [job for job in shard.jobs if job.id in shard.missing()])
    shard.finish()
    assert shard.settle()
    after = {file.name: file.read_bytes() for file in shard.folder.iterdir()}
    assert after == {INDEX: after[INDEX], **{k: v for k, v in before.items() if k != INDEX}}


def test_a_flipped_bit_in_the_index_is_mended(shards, caplog):
    fill(shards[0])
    shards[0].finish()
    index = shards[0].folder / INDEX
    before = index.read_bytes()
    index.write_bytes(before.replace(b'"tokens": 3', b'"tokens": 7'))
    assert shards[0].settle() and index.read_bytes() == before
    assert "damaged index.jsonl" in caplog.text


def test_a_shard_that_another_worker_finishes_meanwhile_stays_finished(shards, monkeypatch):
    """It is finished between the look at its files and what is done about them."""
    shard, other = shards[0], shards[0]
    fill(shard, JOBS[:1])
    look = Shard.done

    def finished_behind(self):
        found = look(self)
        monkeypatch.setattr(Shard, "done", look)
        fill(other, JOBS[1:2])
        other.finish()
        return found

    monkeypatch.setattr(Shard, "done", finished_behind)
    assert not shard.settle()  # as it was when it was looked at
    assert shard.folder.is_dir() and not shard.part.exists()
    assert shard.settle() and len(shard.done()) == 2


def test_a_shard_that_is_finished_while_it_is_looked_at(shards, monkeypatch):
    shard = shards[0]
    fill(shard)
    there = type(shard.part).is_dir

    def finished_behind(path):
        found = there(path)
        if path == shard.part and found:
            monkeypatch.setattr(type(path), "is_dir", there)
            shard.finish()
        return found

    monkeypatch.setattr(type(shard.part), "is_dir", finished_behind)
    assert shard.done() == {"job-0": "digest 0", "job-1": "digest 1"}


@pytest.mark.skipif(os.name != "posix", reason="needs locks of files")
def test_what_another_worker_is_writing_stays(shards):
    import fcntl

    shard = shards[0]
    fill(shard, JOBS[:1])
    open_, left = shard.part / ".job-1.0123abcd.part", shard.part / ".job-1.4567cdef.part"
    left.write_bytes(b"half")
    with open_.open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b"ha")
        file.flush()
        shard.start()
        assert open_.exists() and not left.exists()
    fill(shard, JOBS[1:2])
    shard.finish()
    assert not list(shard.folder.glob(".*")) and len(shard.done()) == 2


def test_a_file_that_goes_between_two_looks_is_gone(shards, monkeypatch):
    """safetensors opens a file twice, and its second error is torch's: the shard was finished."""
    shard = shards[0]
    fill(shard)
    whole = conditioning_file.safe_open

    def taken_away(path, framework):
        monkeypatch.setattr(conditioning_file, "safe_open", whole)
        shard.finish()
        raise RuntimeError(f"unable to open file <{path}> in read-only mode: No such file")

    monkeypatch.setattr(conditioning_file, "safe_open", taken_away)
    shards[0].finish()  # the slower of two
    assert shard.settle() and len(shard.done()) == 2 and not shard.part.exists()
