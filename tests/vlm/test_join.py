"""Models in shards, joined into one file."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm.cli import main
from vlm.weights.join import join_shards
from vlm.weights.shards import find_shards

ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND = (f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2))
INDEX = "diffusion_pytorch_model.safetensors.index.json"
WEIGHTS = {
    FIRST: {"b.weight": torch.randn(3, 5).bfloat16(), "a.bias": torch.randn(7)},
    SECOND: {"c.scale": torch.tensor([True, False, True]), "d.weight": torch.randn(4, 1).half()},
}
ALL = WEIGHTS[FIRST] | WEIGHTS[SECOND]


@pytest.fixture
def shards(tmp_path):
    """A folder with two shards and their index."""
    folder = tmp_path / "transformer"
    folder.mkdir()
    for name, tensors in WEIGHTS.items():
        save_file(tensors, folder / name)
    places = {name: file for file, tensors in WEIGHTS.items() for name in tensors}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}), "utf-8")
    return folder


def same(file):
    found = load_file(file)
    assert set(found) == set(ALL)
    assert all(torch.equal(found[name], tensor) for name, tensor in ALL.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in ALL.items())


def by_folder(shards):
    return shards


def by_index(shards):
    return shards / INDEX


def by_names(shards):
    (shards / INDEX).unlink()
    return shards


def by_pipeline(shards):
    (shards.parent / "model_index.json").write_text("{}", "utf-8")
    return shards.parent


@pytest.mark.parametrize("source", [by_folder, by_index, by_names, by_pipeline])
def test_every_tensor_is_there(shards, source, capsys):
    out = shards.parent / "model.safetensors"
    assert main(["convert", str(source(shards)), str(out)]) == 0
    same(out)
    assert "4 tensors" in capsys.readouterr().out
    assert sorted(p.name for p in out.parent.glob("model*")) in (
        ["model.safetensors"], ["model.safetensors", "model_index.json"],
    )  # fmt: skip


def lost_shard(shards):
    (shards / SECOND).unlink()
    return "lacks '" + SECOND


def lost_shard_without_index(shards):
    (shards / INDEX).unlink()
    return lost_shard(shards)


def cut_shard(shards):
    data = (shards / SECOND).read_bytes()
    (shards / SECOND).write_bytes(data[:-3])
    return "The download was cut short"


def another_download(shards):
    save_file({"other": torch.ones(2)}, shards / SECOND)
    return "which its file does not hold"


def unnamed_tensor(shards):
    save_file(WEIGHTS[SECOND] | {"other": torch.ones(2)}, shards / SECOND)
    return "does not name 'other'"


def twice(shards):
    (shards / INDEX).unlink()
    save_file(WEIGHTS[FIRST], shards / SECOND)
    return "both hold 'a.bias'"


def two_models(shards):
    (shards / INDEX).unlink()
    save_file(ALL, shards / "whole.safetensors")
    return "more than one model"


def outside(shards):
    (shards / INDEX).write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}), "utf-8")
    return "expected files of the same folder"


def nothing(shards):
    for file in shards.iterdir():
        file.unlink()
    return "holds no safetensors file"


BAD = [
    lost_shard, lost_shard_without_index, cut_shard, another_download, unnamed_tensor, twice,
    two_models, outside, nothing,
]  # fmt: skip


@pytest.mark.parametrize("make", BAD)
def test_refuses(shards, make, capsys):
    sentence = make(shards)
    out = shards.parent / "model.safetensors"
    assert main(["convert", str(shards), str(out)]) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()


def test_refuses_to_write_over_a_shard(shards):
    with pytest.raises(ValueError, match="is one of the shards"):
        join_shards(shards, shards / FIRST)


def test_a_file_that_is_not_the_earlier_runs_is_not_gone_on_from(shards, tmp_path):
    out = tmp_path / "model.safetensors"
    part, marks = (tmp_path / f"model.safetensors.joining{end}" for end in ("", ".json"))
    part.write_bytes(b"x" * 500)
    marks.write_text(json.dumps({"sources": "other", "done": 100, "crc": 1}), "utf-8")
    assert join_shards(shards, out).resumed == 0
    same(out)
    assert not part.exists() and not marks.exists()


KILLED = """
import sys
from pathlib import Path
import vlm.weights.join as join
join.SYNC, join.PIECE = 2 << 20, 1 << 20
join.join_shards(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_and_gone_on_with(tmp_path):
    """Killed three times while it writes: the next run goes on, the file equals the shards."""
    folder = tmp_path / "transformer"
    folder.mkdir()
    tensors = {f"layer.{i}": torch.randint(-128, 127, (64, 1 << 20)).char() for i in range(4)}
    for i, (name, tensor) in enumerate(tensors.items(), start=1):
        save_file({name: tensor}, folder / f"model-0000{i}-of-00004.safetensors")
    out = tmp_path / "out.safetensors"
    kills = 0
    for _ in range(10):
        ran = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), str(out)], cwd=ROOT)
        marks = out.with_name("out.safetensors.joining.json")
        before = marks.read_bytes() if marks.exists() else b""
        while ran.poll() is None and (not marks.exists() or marks.read_bytes() == before):
            time.sleep(0.002)
        if ran.poll() is None and kills < 3:
            os.kill(ran.pid, signal.SIGKILL)
            kills += 1
        if ran.wait() == 0:
            break
    assert kills == 3
    found = load_file(out)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


MEASURED = """
import sys
from pathlib import Path
from vlm.weights.join import join_shards

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))

seen = [anonymous()]
join_shards(Path(sys.argv[1]), Path(sys.argv[2]), lambda done, total: seen.append(anonymous()))
print(max(seen) - seen[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_holds_a_piece(tmp_path):
    """Half a GB in two shards; what is read are holes of the disk."""
    folder = tmp_path / "transformer"
    folder.mkdir()
    for i in (1, 2):
        size = 256 << 20
        head = {f"w{i}": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
        text = json.dumps(head).encode()
        with (folder / f"model-0000{i}-of-00002.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + size)
    command = [sys.executable, "-c", MEASURED, str(folder), str(tmp_path / "o.safetensors")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 100, ran.stdout


def test_disk_full(shards, tmp_path, capsys):
    """A limit on the size of files stands for a full disk: said in words, and gone on from."""
    out = tmp_path / "model.safetensors"
    code = (
        "import resource, signal, sys; from vlm.cli import main; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)); "
        "sys.exit(main(['convert', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", code, str(shards), str(out)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2, ran.stderr
    assert "could not be written" in ran.stderr and "goes on from where it stopped" in ran.stderr
    assert not out.exists()
    assert main(["convert", str(shards), str(out)]) == 0
    same(out)


def test_order_of_bytes_is_aligned(shards, tmp_path):
    out = tmp_path / "model.safetensors"
    join_shards(shards, out)
    tensors = find_shards(tmp_path)
    assert len(tensors) == len(ALL)
    for tensor in tensors:
        assert tensor.start % (tensor.size // math.prod(tensor.shape)) == 0
