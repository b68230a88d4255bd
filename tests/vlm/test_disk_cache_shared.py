"""The cache on disk while others change its folder, at last two real processes at once."""

import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_disk_cache import A, B, C, D, file_of, files, same, small, values

from vlm.running import disk_cache
from vlm.running.disk_cache import STALE_SECONDS, DiskCache

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache", 1)


@pytest.fixture
def clock(monkeypatch):
    """As in test_disk_cache.py."""
    ticks = itertools.count(time.time_ns(), 10**9)
    monkeypatch.setattr(disk_cache.time, "time_ns", lambda: next(ticks))


def test_the_folder_is_deleted_in_between(cache, caplog):
    cache.put(A, values())
    shutil.rmtree(cache.folder)
    assert cache.get(A) is None and cache.bytes == 0
    cache.put(A, values())
    assert same(values(), cache.get(A))
    assert caplog.text == ""


def test_the_folder_is_deleted_while_writing(cache, monkeypatch, caplog):
    def replace(source, place):
        shutil.rmtree(cache.folder)
        return os.rename(source, place)

    monkeypatch.setattr(disk_cache.os, "replace", replace)
    cache.put(A, values())
    assert cache.get(A) is None and caplog.text == ""


def test_files_vanish_while_room_is_made(tmp_path, clock, monkeypatch):
    """Another process evicts the same files: what it deleted counts as gone."""
    cache = small(tmp_path, 3)
    for number, key in enumerate((A, B, C)):
        cache.put(key, values(number))
    listed = cache._files

    def then_deleted(names):
        found = listed(names)
        file_of(cache, A).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(cache, "_files", then_deleted)
    cache.put(D, values(3))
    assert [cache.get(key) is not None for key in (A, B, C, D)] == [False, True, True, True]


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(cache):
    cache.put(A, values())
    old, new = (cache.folder / f".vlm-{B}.safetensors.{n}.part" for n in ("00000000", "11111111"))
    for part in (old, new):
        part.write_bytes(b"half")
    long_ago = time.time() - STALE_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    cache.put(C, values())
    assert not old.exists() and new.exists()


WORKER = """
import os, random, sys
from contextlib import suppress
import torch
from vlm.running.disk_cache import DiskCache

torch.set_num_threads(1)
folder, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cache, choose = DiskCache(folder, 20 / 1024), random.Random(seed)
hits = misses = 0
for step in range(rounds):
    number = choose.randrange(12)
    key = f"{number:064x}"
    expected = torch.full((4, 256), float(number))
    got = cache.get(key)
    if got is None:
        misses += 1
        cache.put(key, {"states": expected})
    else:
        hits += 1
        assert torch.equal(got["states"], expected), key
    if step % 100 == 49:
        cache.clear()
    if step % 100 == 99:
        with suppress(OSError, IndexError):  # the other one may be first
            os.unlink(os.path.join(folder, choose.choice(os.listdir(folder))))
print(hits, misses)
"""


def test_two_processes_share_a_folder(tmp_path):
    """20 KB hold four of twelve entries, so that both write, hit and evict the same files."""
    folder = tmp_path / "cache"
    command = [sys.executable, "-c", WORKER, str(folder)]
    workers = [
        subprocess.Popen(
            [*command, str(seed), "4000"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    try:
        said = [worker.communicate(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()  # in vain where it came to its end
    for worker, (out, err) in zip(workers, said, strict=True):
        assert (worker.returncode, err) == (0, "")
        hits, misses = map(int, out.split())
        assert hits > 500 and misses > 500
    cache = DiskCache(folder, 20 / 1024)
    cache.put("f" * 64, values())
    assert cache.bytes <= cache.limit
    assert not [name for name in files(cache) if name.endswith(".part")]
