"""The cache on disk: bounded, shared by processes, and nothing that happens to it fails a run."""

import errno
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vlm.files.units import MEGABYTE
from vlm.running import disk_cache
from vlm.running.disk_cache import DiskCache

ROOT = Path(__file__).resolve().parents[2]
A, B, C, D = (letter * 64 for letter in "abcd")
KB = 1024


def values(seed: int = 0, kilobytes: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"states": torch.randn(kilobytes, 256, generator=generator)}


def same(a: dict, b: dict | None) -> bool:
    return b is not None and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def file_of(cache: DiskCache, key: str) -> Path:
    return cache.folder / f"vlm-{key}.safetensors"


def files(cache: DiskCache) -> list[str]:
    return sorted(file.name for file in cache.folder.iterdir())


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache", 1)


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock is a second later, so that no two uses are at the same time."""
    ticks = itertools.count(time.time_ns(), 10**9)
    monkeypatch.setattr(disk_cache.time, "time_ns", lambda: next(ticks))


def small(tmp_path, entries: int) -> DiskCache:
    """A cache with room for so many entries of 1 KB and their headers."""
    return DiskCache(tmp_path / "cache", (entries + 0.5) * 1.25 * KB / MEGABYTE)


# --- what it keeps --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64]
)
def test_tensors_come_back_as_they_were(cache, dtype):
    whole = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    put = {"whole": whole, "view": whole[:, ::2], "scalar": whole[0, 0, 0], "none": whole[:0]}
    assert cache.get(A) is None
    cache.put(A, put)
    got = cache.get(A)
    assert list(got) == list(put)
    for name, tensor in put.items():
        assert got[name].dtype == dtype and got[name].shape == tensor.shape
        assert torch.equal(got[name].double(), tensor.double())
    assert cache.get(B) is None


@pytest.mark.slow
def test_another_process_finds_them(cache):
    cache.put(A, values())
    code = "import sys; from vlm.running.disk_cache import DiskCache as D; "
    code += "print(D(sys.argv[1], 1).get('a' * 64)['states'].double().sum().item())"
    command = [sys.executable, "-c", code, str(cache.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) == values()["states"].double().sum().item()


def test_it_is_a_safetensors_file_with_ordinary_rights(cache):
    cache.put(A, values())
    assert same(values(), load_file(file_of(cache, A)))
    os.umask(mask := os.umask(0))
    assert file_of(cache, A).stat().st_mode & 0o777 == 0o666 & ~mask
    assert files(cache) == [file_of(cache, A).name]


def test_tensors_do_not_lie_in_the_file(cache):
    cache.put(A, values())
    got = cache.get(A)
    file_of(cache, A).write_bytes(b"\0" * file_of(cache, A).stat().st_size)
    assert same(values(), got)


def test_a_key_put_again_is_replaced(cache):
    cache.put(A, values(1))
    cache.put(A, values(2))
    assert same(values(2), cache.get(A)) and len(files(cache)) == 1


def test_clear_leaves_the_files_of_others(cache):
    cache.put(A, values())
    others = ["notes.txt", "vlm-a.safetensors", f"vlm-{A}.safetensors.bak", f"{A}.safetensors"]
    for name in others:
        (cache.folder / name).write_text("mine")
    part = cache.folder / f".vlm-{A}.safetensors.0123abcd.part"
    part.write_text("half")
    cache.clear()
    assert files(cache) == sorted(others) and cache.bytes == 0
    DiskCache(cache.folder / "nothing", 1).clear()


# --- how much it keeps ----------------------------------------------------------------------------


def test_bytes_are_those_on_disk(cache):
    assert cache.bytes == 0
    for number, key in enumerate((A, B, C)):
        cache.put(key, values(number, 4))
    (cache.folder / "notes.txt").write_text("not counted")
    held = sum(file_of(cache, key).stat().st_size for key in (A, B, C))
    assert cache.bytes == held >= 3 * 4 * KB


def test_least_recently_used_goes_first(tmp_path, clock):
    cache = small(tmp_path, 3)
    for number, key in enumerate((A, B, C)):
        cache.put(key, values(number))
    assert cache.get(A) is not None
    cache.put(D, values(3))
    assert [cache.get(key) is not None for key in (A, B, C, D)] == [True, False, True, True]
    cache.put(B, values(1))
    assert [cache.get(key) is not None for key in (A, B, C, D)] == [False, True, True, True]
    assert cache.bytes <= cache.limit


def test_files_of_others_are_neither_counted_nor_evicted(tmp_path, clock):
    cache = small(tmp_path, 2)
    cache.folder.mkdir()
    mine = cache.folder / "mine.safetensors"
    save_file(values(9, 64), mine)
    os.utime(mine, (0, 0))
    for number, key in enumerate((A, B, C)):
        cache.put(key, values(number))
    assert mine.is_file() and cache.get(A) is None and cache.get(B) is not None


def test_a_smaller_bound_holds_from_the_next_put(tmp_path, clock):
    large = DiskCache(tmp_path / "cache", 1)
    for number, key in enumerate((A, B, C)):
        large.put(key, values(number))
    cache = small(tmp_path, 1)
    cache.put(D, values(3))
    assert files(cache) == [file_of(cache, D).name]


def test_what_is_larger_than_the_bound_is_not_written(tmp_path, clock):
    cache = small(tmp_path, 2)
    cache.put(A, values())
    cache.put(B, values(1, 64))
    assert cache.get(B) is None and cache.get(A) is not None
    nothing = DiskCache(tmp_path / "none", 0)
    nothing.put(A, values())
    assert nothing.get(A) is None and not nothing.folder.exists()


# --- damage ---------------------------------------------------------------------------------------


def test_a_half_file_is_a_miss_and_goes(cache):
    cache.put(A, values(0, 4))
    whole = file_of(cache, A).read_bytes()
    for cut in (0, 7, 60, len(whole) // 2, len(whole) - 1):
        file_of(cache, A).write_bytes(whole[:cut])
        assert cache.get(A) is None
        assert files(cache) == []
    cache.put(A, values())
    assert same(values(), cache.get(A))


@pytest.mark.parametrize("at", [0.3, 0.6, 0.99])
def test_changed_bytes_are_a_miss(cache, at):
    """A file system that lost power gives files of the right length with zeros in them."""
    cache.put(A, values(0, 16))
    data = bytearray(file_of(cache, A).read_bytes())
    data[int(at * len(data))] ^= 0xFF
    file_of(cache, A).write_bytes(data)
    assert cache.get(A) is None
    assert files(cache) == []


@pytest.mark.parametrize("sums", [None, "{", "[]", "null", '{"states": 1}', '{"other": 1}'])
def test_damaged_metadata_is_a_miss(cache, sums):
    cache.put(A, values())
    metadata = {"format": "vlm_cache", "version": "1"} | ({} if sums is None else {"crc": sums})
    save_file(values(), file_of(cache, A), metadata)
    assert cache.get(A) is None


@pytest.mark.parametrize("change", [{"version": "0"}, {"version": "2"}, {"format": "other"}])
def test_another_version_is_a_miss_and_stays_until_it_is_replaced(cache, change):
    cache.put(A, values(1))
    with safe_open(file_of(cache, A), "pt") as file:
        metadata = file.metadata()
    save_file(values(1), file_of(cache, A), metadata | change)
    assert cache.get(A) is None and file_of(cache, A).exists()
    cache.put(A, values(2))
    assert same(values(2), cache.get(A))


# --- nothing fails because it cannot be written ---------------------------------------------------


def full(descriptor):
    os.ftruncate(descriptor, 100)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file_and_warns_once(cache, monkeypatch, caplog):
    cache.put(A, values(1))
    monkeypatch.setattr(os, "fsync", full)
    for key in (A, B, C):
        cache.put(key, values(2))
    assert len(caplog.records) == 1
    said = caplog.text
    assert "No space left" in said and str(cache.folder) in said and "Encoding goes on" in said
    assert files(cache) == [file_of(cache, A).name]
    assert same(values(1), cache.get(A))


def test_a_read_only_folder_is_read(cache, monkeypatch, caplog):
    cache.put(A, values(1))

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for name in ("write_bytes", "unlink", "mkdir"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(disk_cache.os, "utime", refuse)
    assert same(values(1), cache.get(A))
    cache.put(B, values(2))
    cache.put(C, values(3))
    assert cache.get(B) is None and len(caplog.records) == 1
    assert "make the folder writable" in caplog.text
    cache.clear()
    os.truncate(file_of(cache, A), 100)
    assert cache.get(A) is None


def test_files_that_cannot_be_deleted_count_as_held(tmp_path, clock, monkeypatch):
    """As on Windows while another process reads them: the next ones go instead."""
    cache = small(tmp_path, 2)
    for number, key in enumerate((A, B)):
        cache.put(key, values(number))
    unlink = Path.unlink

    def refuse(self, missing_ok=False):
        if self == file_of(cache, A):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    cache.put(C, values(2))
    assert [cache.get(key) is not None for key in (A, B, C)] == [True, False, True]


def test_a_file_in_the_place_of_the_folder(tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    cache = DiskCache(tmp_path / "cache", 1)
    cache.put(A, values())
    assert cache.get(A) is None and cache.bytes == 0
    assert len(caplog.records) == 1 and (tmp_path / "cache").read_text() == "a file"


# --- wrong use ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "abc", "../" + A, A.upper(), A + "/b", "a" * 129, A + "\n"])
def test_a_key_that_is_no_digest(cache, key):
    with pytest.raises(ValueError, match="8 to 128 hexadecimal digits"):
        cache.get(key)
    with pytest.raises(ValueError, match="hexdigest"):
        cache.put(key, values())
    assert not cache.folder.exists()


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf")])
def test_a_bound_that_is_no_size(tmp_path, limit):
    with pytest.raises(ValueError, match="a number from 0 was expected"):
        DiskCache(tmp_path, limit)


def test_a_deep_sum_is_a_miss(cache):
    cache.put(A, values())
    with safe_open(file_of(cache, A), "pt") as file:
        metadata = {**file.metadata(), "crc": "[" * 100_000}
    save_file(values(), file_of(cache, A), metadata)
    assert cache.get(A) is None and files(cache) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.timeout(20)
def test_a_pipe_is_a_miss_and_is_replaced(cache):
    cache.folder.mkdir()
    os.mkfifo(file_of(cache, A))
    assert cache.get(A) is None
    cache.put(A, values())
    assert same(cache.get(A), values())
