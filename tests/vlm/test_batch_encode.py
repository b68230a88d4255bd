"""Many jobs through one model: the same bytes wherever a run begins, whatever fails."""

import json
import shutil
import weakref

import pytest
import torch

import vlm
from vlm.batch.encode import encode_jobs, encode_shard
from vlm.batch.jobs import Provenance, read_jobs
from vlm.batch.recipe import Recipe
from vlm.batch.shards import Shard, cut, held
from vlm.conditioning.file import load_about, load_conditioning
from vlm.pictures.media_files import read_picture

pytestmark = pytest.mark.slow

MAKER = Provenance("tiny", "float32")
DEFAULTS = Recipe(layers="-2", normalize="global", alpha=0.5)


@pytest.fixture
def place(tmp_path, picture):
    picture(64, 96, 1).save(tmp_path / "wide.png")
    picture(96, 64, 2).save(tmp_path / "tall.png")
    return tmp_path


def jobs_of(place, rows):
    rows = [{"text": "a boat " * (number % 3 + 1), **row} for number, row in enumerate(rows)]
    (place / "jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return read_jobs(place / "jobs.jsonl", DEFAULTS, MAKER)


@pytest.fixture
def jobs(place):
    """Groups of 2, 1, 2 and 3 jobs, of which the first three have the same pictures.

    Sizes and words are such that rounding differs where a prompt's beginning is known (on x86-64).
    """
    both, tall = {"image": ["tall.png", "wide.png"]}, {"image": "tall.png"}
    other = {**both, "text": "a boat a boat "}
    deeper = {**both, "layers": "-1", "reference": "something else"}
    return jobs_of(place, [both, other, deeper, other, both, tall, tall, tall])


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def encode(model, jobs, folder):
    """Makes what is missing, as a new process would; the outcomes."""
    folder.mkdir(exist_ok=True)
    model.prefix_cache.clear()
    return list(encode_jobs(model, jobs, held(folder, jobs), folder, MAKER))


def test_files_equal_the_librarys_way(tiny, place, jobs):
    model = tiny(layers=6)
    outcomes = encode(model, jobs[5:], place / "out")
    assert [outcome.error for outcome in outcomes] == [""] * 3
    model.prefix_cache.clear()
    for job in jobs[5:]:
        words, image = job.recipe.text, read_picture(str(place / "tall.png"))
        text = vlm.select_layers(model.encode(words, target="z-image"))
        states = model.encode(words, images=[image], target="z-image")
        kept = vlm.filter_tokens(vlm.select_layers(states, "-2"), keep="text")
        stats = vlm.measure_stats(text)
        expected = vlm.blend(vlm.normalize(kept, stats, mode="global"), text, alpha=0.5)
        (entry,) = load_conditioning(place / "out" / f"{job.id}.safetensors")
        assert torch.equal(entry.tokens.states, expected.states)
        about = load_about(place / "out" / f"{job.id}.safetensors")
        assert about["job"] == job.digest and about["id"] == job.id and about["text"] == words
        assert about["made"] == {
            "tokens": expected.n,
            "width": expected.width,
            "layers": [5],
            "combine": "single",
        }


def test_any_beginning_gives_the_same_bytes(tiny, place, jobs):
    model = tiny(layers=6)
    encode(model, jobs, place / "whole")
    whole = contents(place / "whole")
    assert len({whole[f"{job.id}.safetensors"] for job in jobs}) == len(jobs)
    n = len(jobs)
    beginnings = {2**k - 1 for k in range(1, n)}
    for there in beginnings | {2**k for k in range(n)} | {2**n - 1 - 2**k for k in range(n)}:
        part = place / "part"
        part.mkdir()
        for number, job in enumerate(jobs):
            if there >> number & 1:
                shutil.copy(place / "whole" / f"{job.id}.safetensors", part)
        outcomes = encode(model, jobs, part)
        assert len(outcomes) == len(jobs) - there.bit_count()
        assert contents(part) == whole, f"{there:b}"
        shutil.rmtree(part)


def test_a_group_sees_its_picture_once(tiny, place, jobs, watch):
    model = tiny(layers=6)
    seen = watch(model)
    encode(model, jobs, place / "out")
    assert seen.pictures == 2 + 2 + 2 + 1
    seen.restart()
    encode(model, jobs, place / "out")
    assert not seen.pictures and not seen.ran


def test_what_fails_is_told_and_stops_nothing(tiny, place):
    rows = [
        {},
        {"image": "none.png"},
        {"image": "none.png"},
        {"layers": "40"},
        {"image": "wide.png", "keep": "generated", "text": "c"},
        {"keep": "image"},
        {"text": "the last"},
    ]
    jobs = jobs_of(place, rows)
    (shard,) = cut(jobs, place / "out", 10)
    outcomes = list(encode_shard(tiny(layers=6), shard, MAKER))
    errors = [outcome.error for outcome in outcomes]
    assert [bool(error) for error in errors] == [False, True, True, True, False, True, False]
    assert "There is no picture" in errors[1] and "none.png" in errors[2]
    assert "Layer 40 does not exist" in errors[3] and "leaves nothing" in errors[5]
    assert not shard.folder.exists() and len(list(shard.part.glob("*.safetensors"))) == 3
    assert set(shard.failed()) == {jobs[i].id for i in (1, 2, 3, 5)}
    assert not list(encode_shard(tiny(layers=6), shard, MAKER))
    again = list(encode_shard(tiny(layers=6), shard, MAKER, retry=True))
    assert [outcome.job.id for outcome in again] == [jobs[i].id for i in (1, 2, 3, 5)]


@pytest.mark.parametrize("kind", [MemoryError, RuntimeError, ZeroDivisionError, AssertionError])
def test_an_error_of_any_kind_ends_one_job(tiny, place, monkeypatch, kind):
    jobs = jobs_of(place, [{"text": "a"}, {"text": "bad"}, {"text": "c"}])
    (shard,) = cut(jobs, place / "out", 10)
    model = tiny(layers=6)
    usual, tried = model.encode, []

    def encode_or_not(text, *arguments, **options):
        tried.append(text)
        if text == "bad":
            raise kind
        return usual(text, *arguments, **options)

    monkeypatch.setattr(model, "encode", encode_or_not)
    errors = [outcome.error for outcome in encode_shard(model, shard, MAKER)]
    assert errors[0] == errors[2] == "" and errors[1]
    assert ("memory" if kind is MemoryError else kind.__name__) in errors[1]
    assert shard.failed() == {jobs[1].id: errors[1]}
    tried.clear()
    assert not list(encode_shard(model, shard, MAKER)) and not tried
    monkeypatch.setattr(model, "encode", usual)
    assert [one.error for one in encode_shard(model, shard, MAKER, retry=True)] == [""]
    assert shard.settle() and not (shard.folder / "failed.jsonl").exists()


def test_a_damaged_record_of_failures_is_no_failure(tiny, place):
    jobs = jobs_of(place, [{"text": "a"}, {"text": "b"}])
    (shard,) = cut(jobs, place / "out", 10)
    shard.start()
    other = json.dumps({"id": jobs[1].id, "job": "of another line", "error": "no"})
    half = json.dumps({"id": jobs[0].id, "job": jobs[0].digest, "error": "no"})[:-4]
    (shard.part / "failed.jsonl").write_text("\n".join(["[" * 5000, "7", other, half]))
    assert not shard.failed()
    shard.record(jobs[0], "known \ud800")
    assert list(shard.failed()) == [jobs[0].id]


def test_a_failing_job_left_out_changes_no_bytes(tiny, place):
    wide = {"image": "wide.png", "keep": "prompt"}
    jobs = jobs_of(place, [wide, {**wide, "text": ""}, wide, wide])
    model = tiny(layers=6)
    (whole,) = cut(jobs, place / "whole", 10)
    outcomes = list(encode_shard(model, whole, MAKER))
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False, False]
    for there in range(1, 4):
        (shard,) = cut(jobs, place / f"part{there}", 10)
        shard.start()
        for name in ["failed.jsonl", *sorted(contents(whole.part))[:there]]:
            shutil.copy(whole.part / name, shard.part)
        list(encode_shard(model, shard, MAKER))
        assert contents(shard.part) == contents(whole.part)


def test_a_failing_job_in_a_group_changes_no_bytes(tiny, place):
    wide = {"image": "wide.png", "keep": "prompt"}
    jobs = jobs_of(place, [{**wide, "text": ""}, wide, {**wide, "text": ""}, wide, wide])
    model = tiny(layers=6)
    outcomes = encode(model, jobs, place / "whole")
    assert [bool(outcome.error) for outcome in outcomes] == [True, False, True, False, False]
    whole = contents(place / "whole")
    for there in range(1, 3):
        (place / f"part{there}").mkdir()
        for name in sorted(whole)[:there]:
            shutil.copy(place / "whole" / name, place / f"part{there}")
        encode(model, jobs, place / f"part{there}")
        assert contents(place / f"part{there}") == whole


def test_out_of_memory_is_one_jobs_failure(tiny, place, monkeypatch):
    jobs = jobs_of(place, [{"text": "a"}, {"text": "too much"}, {"text": "b"}])
    model = tiny(layers=6)
    usual = model.encode

    def encode_or_not(text, *arguments, **options):
        if text == "too much":
            raise torch.cuda.OutOfMemoryError("out of\nmemory")
        return usual(text, *arguments, **options)

    monkeypatch.setattr(model, "encode", encode_or_not)
    errors = [outcome.error for outcome in encode(model, jobs, place / "out")]
    assert errors == ["", "out of memory", ""]


@pytest.mark.parametrize("caused", [False, True])
def test_a_failed_jobs_tensors_are_gone_before_the_next(tiny, place, monkeypatch, caused):
    jobs = jobs_of(place, [{"text": "too much"}, {"text": "a"}])
    model = tiny(layers=6)
    usual, activations, alive = model.backbone.run_layer, [], []

    def run_layer(*arguments):
        if activations:
            alive.append(sum(each() is not None for each in activations))
            return usual(*arguments)
        tensor = torch.zeros(8)
        activations.append(weakref.ref(tensor))
        # Run raises another error because of one about memory, and lets other kinds through.
        raise torch.OutOfMemoryError("CUDA out of memory") if caused else ValueError("no")

    monkeypatch.setattr(model.backbone, "run_layer", run_layer)
    outcomes = encode(model, jobs, place / "out")
    assert [bool(outcome.error) for outcome in outcomes] == [True, False]
    assert alive and not any(alive)


def test_a_group_that_cannot_be_read_holds_no_error(tiny, place, monkeypatch):
    jobs, errors = jobs_of(place, [{"image": "tall.png"}, {"image": "tall.png", "text": "b"}]), []

    class Gone(OSError):
        """An error that can be referred to weakly."""

    def fail(recipe):
        error = Gone("the disk is gone")
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error  # no circle through this frame

    monkeypatch.setattr(vlm.batch.encode, "read_inputs", fail)
    told = 0
    for outcome in encode_jobs(tiny(layers=6), jobs, {}, place, MAKER):
        told += outcome.error == "the disk is gone" and errors[0]() is None
    assert (told, len(errors)) == (2, 1)


def test_a_full_disk_stops_the_run_and_keeps_what_is_there(tiny, place, jobs, monkeypatch):
    model, usual, saved = tiny(layers=6), vlm.batch.encode.save_job, []

    def save(*arguments):
        if len(saved) == 2:
            raise OSError(28, "No space left on device")
        saved.append(usual(*arguments))

    (shard,) = cut(jobs, place / "out", 10)
    with monkeypatch.context() as patch:
        patch.setattr(vlm.batch.encode, "save_job", save)
        with pytest.raises(OSError, match="No space left"):
            list(encode_shard(model, shard, MAKER))
    assert len(shard.done()) == 2 and not shard.settle()
    assert len(list(encode_shard(model, shard, MAKER))) == 6 and shard.settle()


@pytest.mark.parametrize("made", range(4))
def test_two_workers_on_one_shard(tiny, place, made):
    model = tiny(layers=6)
    jobs = jobs_of(place, [{}, {}, {}])
    (alone,) = cut(jobs, place / "alone", 10)
    list(encode_shard(model, alone, MAKER))
    (shard,) = cut(jobs, place / "both", 10)
    slow = encode_shard(model, shard, MAKER)
    for _ in range(made):
        next(slow)
    list(encode_shard(model, Shard(0, jobs, shard.folder), MAKER))  # overtakes
    list(slow)
    assert sorted(file.name for file in (place / "both").iterdir()) == ["shard-00000"]
    assert contents(shard.folder) == contents(alone.folder)
