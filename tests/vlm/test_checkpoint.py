"""Weights that stay in their files."""

import json
import shutil
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import vlm
from vlm.families import FAMILIES
from vlm.weights.checkpoint import Checkpoint, load_model
from vlm.weights.folder import build_config

pytestmark = pytest.mark.slow

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")


def mapped(file):
    """Address ranges of this process that are pages of a file."""
    ranges = []
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            if line.rstrip().endswith(str(file)):
                ranges.append([int(end, 16) for end in line.split()[0].split("-")])
    return ranges


def is_in(tensor, ranges):
    return any(start <= tensor.data_ptr() < end for start, end in ranges)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("qwen3_vl", 2), tmp_path / "tiny")


def build(folder, family, dtype):
    config = json.loads((folder / "config.json").read_text())
    files = Checkpoint(folder, [folder / "model.safetensors"])
    config = build_config(config, FAMILIES[family], folder)
    return load_model(files, config, FAMILIES[family], dtype, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_the_model_that_transformers_loads(tiny_folder, family, dtype):
    folder = tiny_folder(family, 2)
    ours = build(folder, family, dtype)
    architecture = getattr(transformers, FAMILIES[family].architecture)
    theirs = architecture.from_pretrained(folder, dtype=dtype).model
    assert type(ours) is type(theirs)
    for kind in ("named_parameters", "named_buffers"):
        a, b = (dict(getattr(model, kind)()) for model in (ours, theirs))
        assert a.keys() == b.keys() and len(a) > 1
        for name, tensor in a.items():
            assert tensor.dtype == b[name].dtype, name
            assert torch.equal(tensor, b[name]), name
    a, b = (model.config.text_config.to_dict() | {"dtype": None} for model in (ours, theirs))
    assert a == b


@LINUX
def test_weights_of_the_files_own_dtype_are_pages_of_the_file(folder):
    model = vlm.load(folder)
    ranges = mapped(folder / "model.safetensors")
    assert all(is_in(weight, ranges) for weight in model.backbone.parameters())
    other = vlm.load(folder, dtype="bfloat16")
    assert not any(is_in(weight, ranges) for weight in other.backbone.parameters())


@LINUX
def test_only_what_has_another_dtype_is_copied(folder):
    weights = load_file(folder / "model.safetensors")
    halves = {name for name in weights if "mlp" in name}
    stored = {n: w.bfloat16() if n in halves else w for n, w in weights.items()}
    save_file(stored, folder / "model.safetensors")
    model = vlm.load(folder, dtype="float32")
    ranges = mapped(folder / "model.safetensors")
    for name, weight in model.backbone.model.named_parameters():
        assert is_in(weight, ranges) == (f"model.{name}" not in halves), name


def test_changing_a_weight_leaves_the_file_alone(folder):
    file = folder / "model.safetensors"
    before = file.read_bytes()
    model = vlm.load(folder)
    with torch.no_grad():
        for weight in model.backbone.parameters():
            weight.mul_(2)
    assert file.read_bytes() == before
    again = vlm.load(folder)
    want = vlm.load(folder, dtype="float32").backbone.text.norm.weight
    assert torch.equal(again.backbone.text.norm.weight, want)


@LINUX
def test_a_file_that_is_replaced_leaves_the_model_alone(folder, tiny):
    model = vlm.load(folder)
    other = folder / "other"
    other.write_bytes(b"another file")
    other.replace(folder / "model.safetensors")
    want = tiny("qwen3_vl", 2).encode("a house").layer(-1)
    assert torch.equal(model.encode("a house").layer(-1), want)


def test_weights_can_be_moved_and_converted(folder, tiny):
    model = vlm.load(folder)
    model.backbone.to(torch.float64)
    assert model.encode("a").layer(-1).dtype == torch.float64
    model.backbone.to("cpu", torch.float32)
    want = tiny("qwen3_vl", 2).encode("a").layer(-1)
    assert torch.equal(model.encode("a").layer(-1), want)


def test_the_built_in_model_needs_no_file_that_is_gone():
    model = vlm.load("tiny", layers=2)
    assert model.encode("a").layer(-1).isfinite().all()
    if sys.platform == "linux":
        with open("/proc/self/maps", encoding="utf-8") as maps:
            assert not any("tiny/model.safetensors (deleted)" in line for line in maps)
