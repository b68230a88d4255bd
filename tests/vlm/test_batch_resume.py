"""kill -9 in the middle of a batch: what is there afterwards is as if nothing had happened."""

import fnmatch
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARD, JOBS = 4, 12
KILLS = int(os.environ.get("KILLS", "10"))  # docs/reliability.md has what 100 gave

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


class Server:
    """Talks to batch_server.py: a run of the command costs no import."""

    def __init__(self, log, environment):
        self.log = log.open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("batch_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def start(self, words, die=0):
        """Starts the command; the pid of its process."""
        self.log.seek(0)
        self.log.truncate()
        self.process.stdin.write(json.dumps({"words": words, "die": die}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self):
        """Waits for it; exit status (negative: the signal that ended it) and what it said."""
        status = int(self.process.stdout.readline())
        self.log.seek(0)
        return status, self.log.read()

    def run(self, words, die=0):
        self.start(words, die)
        return self.end()

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()
        self.log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RANK", None)
    one = Server(tmp_path_factory.mktemp("server") / "log", environment)
    yield one
    one.close()


@pytest.fixture(scope="module")
def command(tmp_path_factory, tiny_folder, picture):
    """`command(out)`: jobs that share pictures, have several, have none, and differ in options."""
    place = tmp_path_factory.mktemp("jobs")
    picture(64, 96, 1).save(place / "wide.png")
    picture(96, 64, 2).save(place / "tall.png")
    images = [["wide.png"]] * 5 + [["tall.png", "wide.png"]] * 3 + [[]] * 4
    rows = [
        {"id": f"job {number}", "text": "a boat " * (number % 3 + 1), "image": files}
        for number, files in enumerate(images)
    ]
    for number in (2, 9):
        rows[number]["normalize"] = "none"
    (place / "jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["encode", "--model", str(tiny_folder(layers=6)), "--jobs", str(place / "jobs.jsonl")]
    words += ["--layers=-2", "--normalize", "global", "--alpha", "0.5"]
    return lambda out: [*words, "--shard-size", str(SHARD), "--out", str(out)]


@pytest.fixture(scope="module")
def whole(server, command, tmp_path_factory):
    """The tree of a run that nobody stops, and how many changes to files it makes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    status, said = server.run(command(out))
    assert status == 0, said
    assert len([name for name in tree(out) if name.endswith(".safetensors")]) == JOBS
    return tree(out), int(re.search(r"changes: (\d+)", said)[1])


def tree(out):
    """Every file below a folder with its bytes."""
    files = sorted(file for file in out.rglob("*") if file.is_file())
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def job_files(out):
    """Finished files and what tells a file from another of the same name and bytes.

    May be asked while a run renames folders: what vanishes during the walk is left out.
    """
    found = {}
    for folder, _, names in os.walk(out):
        for name in fnmatch.filter(names, "job *.safetensors"):
            with suppress(FileNotFoundError):
                stat = os.stat(os.path.join(folder, name))
                found[name] = (stat.st_ino, stat.st_mtime_ns)
    return found


def resume_and_compare(server, command, out, whole):
    kept = job_files(out)
    status, said = server.run(command(out))
    assert status == 0, said
    assert f"{JOBS - len(kept)} of {JOBS} jobs encoded" in said  # nothing twice
    assert kept.items() <= job_files(out).items()  # nothing lost, nothing made again
    assert tree(out) == whole


@pytest.mark.slow
def test_a_second_run_does_nothing(server, command, whole, tmp_path):
    out = tmp_path / "out"
    assert server.run(command(out))[0] == 0
    assert tree(out) == whole[0]
    resume_and_compare(server, command, out, whole[0])


@pytest.mark.parametrize("turn", range(KILLS))
@pytest.mark.slow
def test_killed_at_a_random_change_of_files(server, command, whole, tmp_path, turn):
    expected, changes = whole
    out = tmp_path / "out"
    # One in each stretch of the run, so that they lie all over it.
    first, end = turn * changes // KILLS, (turn + 1) * changes // KILLS
    point = random.Random(turn).randrange(first, max(first + 1, end)) + 1
    status, said = server.run(command(out), die=point)
    assert status == -signal.SIGKILL, said
    # After the last change all is there.
    assert point == changes or (tree(out) if out.exists() else {}) != expected
    resume_and_compare(server, command, out, expected)


@pytest.mark.slow
def test_killed_by_the_clock_again_and_again(server, command, whole, tmp_path):
    out = tmp_path / "out"
    rng = random.Random(7)
    for files in range(0, JOBS, 2):  # each run is killed after two more files, or so
        pid = server.start(command(out))
        until = time.monotonic() + 60
        while len(job_files(out)) < files and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        with suppress(ProcessLookupError):  # it may have come to its end
            os.kill(pid, signal.SIGKILL)
        assert server.end()[0] in (-signal.SIGKILL, 0)
    resume_and_compare(server, command, out, whole[0])


@pytest.mark.slow
def test_two_processes_on_one_folder(server, command, whole, tmp_path):
    """The same command twice at once: each makes files, and all of them are as one makes them."""
    out = tmp_path / "out"
    other = Server(tmp_path / "log", {**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        for _ in range(3):
            server.start(command(out))
            other.start(command(out))
            ended = [server.end(), other.end()]
            if [status for status, _ in ended] != [0, 0]:  # all that they said, uncut
                pytest.fail("\n".join(f"{status}: {said}" for status, said in ended), pytrace=False)
            assert tree(out) == whole[0]
            shutil.rmtree(out)
    finally:
        other.close()
