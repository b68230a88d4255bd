"""A disk that is full, really: a file system of 2 MB in memory, where this user may mount one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vlm
from vlm import cli
from vlm.running.disk_cache import DiskCache

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system in memory")
JOBS, ROOM = 24, 2 * 2**20


@pytest.fixture
def disk(tmp_path):
    """A folder that holds 2 MB; `grow` makes room."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may mount no file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)


def tree(out):
    files = sorted(file for file in out.rglob("*") if file.is_file())
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def test_a_batch_says_so_and_goes_on_when_there_is_room(disk, tiny_folder, tmp_path, capsys):
    jobs = tmp_path / "jobs.jsonl"
    lines = [f'{{"text": "{"a boat at sea " * 60} {n}"}}' for n in range(JOBS)]
    jobs.write_text("\n".join(lines))

    def run(out):
        words = ["encode", "--model", str(tiny_folder(layers=2)), "--jobs", str(jobs)]
        status = cli.main([*words, "--layers=-1", "--shard-size", "5", "--out", str(out)])
        return status, capsys.readouterr().err

    assert run(tmp_path / "whole")[0] == 0
    whole = tree(tmp_path / "whole")
    assert sum(map(len, whole.values())) > ROOM
    status, said = run(disk / "out")
    assert status == 2 and "could not be written" in said and "Is the disk full?" in said
    assert not [name for name in tree(disk / "out") if name.endswith(".part")]
    made = {Path(name).name: data for name, data in tree(disk / "out").items()}
    same = {Path(name).name: data for name, data in whole.items()}
    files = [name for name in made if name.endswith(".safetensors")]
    assert files and all(made[name] == same[name] for name in files)  # none is half a file
    grow(disk)
    assert run(disk / "out")[0] == 0
    assert tree(disk / "out") == whole


def test_a_saved_conditioning_stays_the_old_one(disk):
    small = [vlm.Entry(vlm.Tokens(torch.zeros(1, 4, 8)), {})]
    large = [vlm.Entry(vlm.Tokens(torch.zeros(1, 4096, 256)), {})]  # 4 MB
    vlm.save_conditioning(small, disk / "a.safetensors")
    with pytest.raises(OSError, match="could not be written.*Is the disk full?"):
        vlm.save_conditioning(large, disk / "a.safetensors")
    assert os.listdir(disk) == ["a.safetensors"]
    assert vlm.load_conditioning(disk / "a.safetensors")[0].tokens.n == 4


def test_a_disk_cache_gives_up_and_the_result_is_the_same(disk, tiny_folder, caplog):
    folder = tiny_folder(layers=2)
    cached = vlm.load(folder, dtype="float32", disk_cache=DiskCache(disk / "cache", 4096))
    plain = vlm.load(folder, dtype="float32")
    for number in range(12):
        text = f"{'a boat at sea ' * 120} {number}"
        assert torch.equal(cached.encode(text).layer(-1), plain.encode(text).layer(-1))
    assert [one for one in caplog.records if "cache" in one.getMessage()]
