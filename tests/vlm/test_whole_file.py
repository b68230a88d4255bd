"""Files appear whole: on the disk before they take a name, and no remains of a kill stay."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vlm.files import whole_file
from vlm.files.whole_file import write_whole

ROOT = Path(__file__).parents[2]
WRITER = """
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("whole_file", "vlm/files/whole_file.py")
whole_file = importlib.util.module_from_spec(spec)  # without the library around it
spec.loader.exec_module(whole_file)
def wait(file):
    file.flush()
    print("here", flush=True)
    time.sleep(60)
whole_file.sync = wait
whole_file.write_whole(Path(sys.argv[1]), b"from another process")
"""


@pytest.fixture(autouse=True)
def first_time(monkeypatch):
    monkeypatch.setattr(whole_file, "_swept", set())


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing a file; it holds its part."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "theirs")],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "here\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_disk_has_it_before_it_takes_the_name(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda of: done.append(os.readlink(f"/proc/self/fd/{of}")) or sync(of)
    )
    monkeypatch.setattr(os, "replace", lambda a, b: done.append("replace") or replace(a, b))
    write_whole(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"
    assert [Path(name).suffix or Path(name).name for name in done] == [
        ".part", "replace", tmp_path.name,
    ]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_what_a_kill_leaves_goes_and_what_another_writes_stays(tmp_path, writer):
    (half,) = tmp_path.glob(".theirs.*.part")
    write_whole(tmp_path / "ours", b"ours")
    assert half.exists()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    whole_file._swept.clear()  # as a new process
    write_whole(tmp_path / "ours", b"again")
    assert [file.name for file in tmp_path.iterdir()] == ["ours"]


def test_only_parts_of_ours_go(tmp_path):
    others = [".hidden.part", "film.mkv.part", ".a.12345678.partial", ".b.1234567g.part"]
    for name in others:
        (tmp_path / name).write_text("x")
    (tmp_path / ".folder.12345678.part").mkdir()
    (tmp_path / ".new.12345678.part").write_text("")  # somebody is about to lock it
    (tmp_path / ".old.12345678.part").write_text("")
    os.utime(tmp_path / ".old.12345678.part", (0, 0))
    write_whole(tmp_path / "a", b"")
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {*others, ".folder.12345678.part", ".new.12345678.part", "a"}


def test_a_folder_is_looked_through_once(tmp_path, monkeypatch):
    looks = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda place: looks.append(place) or scan(place))
    for number in range(5):
        write_whole(tmp_path / str(number), b"x")
    assert looks == [tmp_path]


@pytest.mark.parametrize("name", ["a" * 255, "红" * 85, "\u202e" * 85])
def test_the_longest_name_that_a_file_can_have(tmp_path, name):
    write_whole(tmp_path / name, b"all of it")
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"all of it"
