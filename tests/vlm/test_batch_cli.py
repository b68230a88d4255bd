"""`python -m vlm encode --jobs` and `--folder`: exit status, what is said, workers, interrupts."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vlm import cli
from vlm.cli import encode_many, progress
from vlm.conditioning.file import load_about

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No worker of whoever runs the tests, and interrupts as on a terminal.

    What a script starts in the background ignores them.
    """
    for name in list(os.environ):
        if name in ("RANK", "WORLD_SIZE") or name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def place(tmp_path, picture):
    for number in range(3):
        picture(64, 96, number).save(tmp_path / f"p{number}.png")
    return tmp_path


@pytest.fixture
def encode(place, tiny_folder):
    """`encode(*words, code=0)` into `out`, with shards of two jobs."""

    def run(*words, code=0, out="out"):
        model = str(tiny_folder(layers=6))
        command = ["encode", "--model", model, "--out", str(place / out), "--layers", "-2"]
        assert cli.main([*command, "--shard-size", "2", *words]) == code

    return run


@pytest.fixture
def jobs(place):
    """`jobs(*rows)`: the words that name a jobs file."""

    def write(*rows):
        (place / "jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return "--jobs", str(place / "jobs.jsonl")

    return write


def texts(*words):
    return [{"id": word, "text": word} for word in words]


def names(out):
    return sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())


def test_a_folder_of_pictures(encode, place, capsys):
    (place / "p1.txt").write_text("a tree")
    encode("--folder", str(place), "--text", "a boat", "--keep", "image")
    assert names(place / "out") == [
        "shard-00000/index.jsonl",
        "shard-00000/p0.safetensors",
        "shard-00000/p1.safetensors",
        "shard-00001/index.jsonl",
        "shard-00001/p2.safetensors",
    ]
    about = [load_about(file) for file in sorted((place / "out").rglob("p*.safetensors"))]
    assert [one["text"] for one in about] == ["a boat", "a tree", "a boat"]
    assert [one["images"] for one in about] == [["p0.png"], ["p1.png"], ["p2.png"]]
    assert all(one["keep"] == "image" for one in about)
    said = capsys.readouterr()
    assert said.out == f"3 of 3 jobs encoded; in {place / 'out'}\n"
    assert said.err.splitlines() == ["shard-00000: 2 of 3 jobs", "shard-00001: 3 of 3 jobs"]


def test_a_run_goes_on_where_it_was_and_then_does_nothing(encode, place, jobs, capsys, monkeypatch):
    words = jobs(*texts("a", "b"), {"id": "c", "image": "later.png"}, *texts("d", "e"))
    encode(*words, code=1)
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "shard-00000: 2 of 5 jobs",
        f"failed: c: There is no picture {place / 'later.png'}. Name one that exists.",
        "shard-00001.part: 4 of 5 jobs",
        "shard-00002: 5 of 5 jobs",
        "1 of 5 jobs failed, their shards end in .part; mend them and run the same command again "
        "with --retry",
    ]
    assert names(place / "out")[3:5] == [
        "shard-00001.part/d.safetensors",
        "shard-00001.part/failed.jsonl",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(encode_many, "load_model", None)  # what failed is not tried again
        encode(*words, code=1)
    said = capsys.readouterr()
    assert "0 of 5 jobs encoded, 4 were there" in said.out
    assert said.err.startswith("failed before: c: There is no picture") and "--retry" in said.err
    (place / "p0.png").rename(place / "later.png")
    encode(*words, "--retry")
    said = capsys.readouterr()
    assert "1 of 5 jobs encoded, 4 were there" in said.out
    assert said.err == "shard-00001: 5 of 5 jobs\n"
    monkeypatch.setattr(encode_many, "load_model", None)  # not even the model is needed
    encode(*words)
    assert "0 of 5 jobs encoded, 5 were there" in capsys.readouterr().out


def test_workers_share_the_shards_and_their_number_may_change(encode, place, jobs, monkeypatch):
    words = jobs(*texts(*"abcdefghi"))
    encode(*words, out="alone")
    encode(*words, "--worker", "1/3")
    assert {name.split("/")[0] for name in names(place / "out")} == {"shard-00001", "shard-00004"}
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    encode(*words)
    folders = {name.split("/")[0] for name in names(place / "out")}
    assert folders == {f"shard-0000{number}" for number in (0, 1, 2, 4)}
    encode(*words, "--worker", "0/1")  # by hand wins
    assert names(place / "out") == names(place / "alone")
    for name in names(place / "out"):
        assert (place / "out" / name).read_bytes() == (place / "alone" / name).read_bytes()


def test_more_workers_than_shards(encode, place, jobs, capsys):
    encode(*jobs(*texts("a")), "--worker", "2/3")
    assert "worker 2/3: 0 of 0 jobs encoded" in capsys.readouterr().out


def test_other_options_are_refused(encode, place, jobs, capsys):
    encode(*jobs(*texts("a", "b", "c")))
    before = names(place / "out")
    capsys.readouterr()
    for words in (("--alpha", "0.3"), ("--dtype", "float32"), ("--shard-size", "3")):
        encode(*jobs(*texts("a", "b", "c")), *words, code=2)
        said = capsys.readouterr().err
        assert "made from other jobs, options or shard size" in said and said.count("\n") == 1
    encode(*jobs(*texts("a", "b", "d")), code=2)
    assert names(place / "out") == before


BAD = [
    (("--image", "p0.png"), "--image is of a single prompt, --jobs of many. Drop one."),
    (("--video", "frames"), "--video is of a single prompt"),
    (("--worker", "3/3"), "--worker is '3/3'"),
    (("--stats", "none.safetensors"), "no statistics file"),
    (("--alpha", "2"), "--alpha is the picture's share"),
    (("--model", "none"), "There is no folder none"),
    (("--device", "toaster"), "no device 'toaster'"),
    (("--out", "x.safetensors"), "expected a folder"),
    (("--out", "p0.png"), "p0.png"),
    (("--jobs", "none.jsonl"), "There is no jobs file none.jsonl"),
]


@pytest.mark.parametrize(("words", "says"), BAD, ids=[says for _, says in BAD])
def test_errors_take_one_line_and_write_nothing(
    encode, place, jobs, monkeypatch, capsys, words, says
):
    monkeypatch.chdir(place)
    given = jobs(*texts("a"))
    before = names(place)
    encode(*given, *words, code=2)
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and said.err.startswith("error: ") and says in said.err
    assert not said.out and names(place) == before


def test_all_lines_are_checked_before_the_model_loads(encode, place, jobs, monkeypatch, capsys):
    monkeypatch.setattr(encode_many, "load_model", None)
    encode(*jobs(*texts("a", "b", "c"), {"text": "d", "alpha": 3}), code=2)
    assert "error: Line 4 of jobs.jsonl: --alpha is" in capsys.readouterr().err


def test_options_of_many_prompts_are_refused_for_one(place, tiny_folder, capsys):
    words = ["--model", str(tiny_folder(layers=6)), "--out", str(place / "x.safetensors")]
    for option in (["--shard-size", "2"], ["--worker", "0/2"], ["--retry"]):
        assert cli.main(["encode", *words, "--text", "a", *option]) == 2
        assert f"{option[0]} belongs to --jobs or --folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["encode", *words, "--jobs", "a", "--folder", "b"])
    assert "not allowed with" in capsys.readouterr().err


def interrupting(monkeypatch, after, times=1):
    """Sends interrupts while a job is saved, once so many are; the list of those saved."""
    usual, saved = encode_many.encode_shard.__globals__["save_job"], []

    def save(tokens, folder, job, notes):
        if len(saved) == after:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)  # to this thread: none is lost
        usual(tokens, folder, job, notes)
        saved.append(job.id)

    monkeypatch.setitem(encode_many.encode_shard.__globals__, "save_job", save)
    return saved


def test_an_interrupt_lets_the_job_end(encode, place, jobs, monkeypatch, capsys):
    words = jobs(*texts(*"abcde"))
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        saved = interrupting(patch, 2)
        encode(*words, code=130)
    assert saved == ["a", "b", "c"] and signal.getsignal(signal.SIGINT) is before
    said = capsys.readouterr()
    assert "stopping after this job; again to stop at once\n" in said.err
    assert said.err.endswith("stopped; the same command goes on from here\n")
    encode(*words)
    assert "2 of 5 jobs encoded, 3 were there" in capsys.readouterr().out
    assert len(names(place / "out")) == 5 + 3


def test_a_second_interrupt_stops_at_once(encode, place, jobs, monkeypatch, capsys):
    words = jobs(*texts(*"abcde"))
    with monkeypatch.context() as patch:
        saved = interrupting(patch, 2, times=2)
        encode(*words, code=130)
    assert saved == ["a", "b"]
    assert capsys.readouterr().err.endswith("stopped\n")
    encode(*words)
    assert "3 of 5 jobs encoded, 2 were there" in capsys.readouterr().out


def test_a_bar_begins_at_what_is_there(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.JobBar(10, 6) as bar:
        bar.step()
        bar.say("failed: x: why")
        bar.finished("shard-00000")
    shown = capsys.readouterr().err
    assert "6/10" in shown and "7/10" in shown and "failed: x: why\n" in shown
    assert "shard-00000" not in shown  # the bar says as much


def test_torchrun_waits_for_all_workers_when_a_job_failed(place, jobs, tiny_folder):
    """The first worker, whose jobs all fail at once, would else have the other one killed."""
    bad = [{"id": f"bad{number}", "image": "none.png"} for number in range(400)]
    words = jobs(*bad, *texts(*(f"good{number}" for number in range(400))))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "vlm", "encode", "--model", str(tiny_folder(layers=6))]
    command += [*words, "--shard-size", "400", "--layers=-2", "--out", str(place / "out")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as run:
        try:
            said, complained = run.communicate(timeout=300)
        finally:
            run.terminate()  # with its workers, where it is still there
    assert run.returncode == 1, complained
    assert "worker 0/2: 400 of 400 jobs failed" in complained
    assert "worker 1/2: 400 of 400 jobs encoded" in said
    assert len(names(place / "out")) == 400 + 2
