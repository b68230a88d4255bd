"""The doctor on a good setup and on broken ones."""

import json
import shutil
import sys
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from model_files import edit, shard

from vlm.cli import doctor as command
from vlm.cli import main
from vlm.doctor import comfyui, devices, disk, examination, families, models, versions
from vlm.families import FAMILIES

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings the same reader
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """A machine without ComfyUI and without Hugging Face's cache."""
    monkeypatch.setattr(comfyui, "_places", lambda: iter(()))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no cache"))
    monkeypatch.setattr(versions, "TESTED", (versions._installed("transformers"),))


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of a tiny Qwen3-VL folder that a test may damage."""
    return shutil.copytree(tiny_folder("qwen3_vl", 2), tmp_path / "VLM" / "Qwen3-VL-Tiny")


def problems(found):
    return [remark.text for remark in found.remarks if remark.problem]


# --- versions


def test_the_oldest_versions_are_those_of_the_project_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = dict(one.split(">=") for one in project["dependencies"])
    assert {name: oldest for name, oldest in versions.OLDEST.items() if oldest} == asked
    assert project["requires-python"] == ">=" + ".".join(map(str, versions.OLDEST_PYTHON))


def test_good_versions(alone):
    found = versions.examine_versions()
    assert not found.remarks
    facts = {fact["name"]: fact for fact in found.facts}
    assert facts["torch"]["version"] and facts["transformers"]["tested"] is True
    assert facts["python"]["version"] == sys.version.split()[0]


def test_a_version_that_was_not_tested_is_a_note(monkeypatch):
    monkeypatch.setattr(versions, "TESTED", ("4.55.0", "4.56.0"))
    there = versions._installed("transformers")
    found = versions.examine_versions()
    assert not problems(found)
    (note,) = found.remarks
    assert there in note.text and "4.55.0, 4.56.0" in note.text and "==4.56.0" in note.text


def test_missing_and_old_packages(monkeypatch):
    there = {"transformers": "4.40.1", "einops": None, "numpy": "1.9.3", "tqdm": "my own"}

    def version(name):
        if there.get(name, "99") is None:
            raise PackageNotFoundError(name)
        return there.get(name, "99")

    monkeypatch.setattr(versions, "version", version)
    said = problems(versions.examine_versions())
    assert len(said) == 3
    assert any("transformers 4.40.1 is older than 4.57" in text for text in said)
    assert any("einops is not installed. Run: pip install" in text for text in said)
    assert any("numpy 1.9.3 is older than 1.26" in text for text in said)


# --- families


@pytest.mark.parametrize("family", ["qwen3_vl", "llama"])
def test_a_family_that_works(family):
    assert families.check_family(family) is None


def test_a_family_whose_layers_changed(monkeypatch):
    from vlm.running.huggingface import HuggingFaceBackbone

    def broken(self, *args, **kwargs):
        raise TypeError("forward() got an unexpected keyword argument 'cache'")

    monkeypatch.setattr(HuggingFaceBackbone, "run_layer", broken)
    said = families.check_family("qwen3_vl")
    assert "Qwen3-VL" in said and "unexpected keyword argument 'cache'" in said


def test_every_family_is_checked():
    bad = {"qwen2_vl": "Qwen2-VL is off.", "llama": "Llama is off."}
    found = families.examine_families(bad.get)
    assert [fact["family"] for fact in found.facts] == list(FAMILIES)
    assert [fact["family"] for fact in found.facts if not fact["works"]] == list(bad)
    assert [remark.where for remark in found.remarks] == list(bad)
    assert all("pip install transformers==" in text for text in problems(found))


# --- devices and disks


def test_the_cpu_computes():
    found = devices.examine_devices()
    assert found.facts[0]["device"] == "cpu" and found.facts[0]["dtypes"]["float32"]
    assert not problems(found)


def test_a_device_that_computes_nothing(monkeypatch):
    monkeypatch.setattr(devices, "find_devices", lambda: [torch.device("cpu")])
    monkeypatch.setattr(devices, "multiplies", lambda device, dtype, _=None: dtype == torch.float16)
    found = devices.examine_devices()
    works = {"float32": False, "bfloat16": False, "float16": True, "fp8 weights": False}
    assert found.facts[0]["dtypes"] == works
    assert "cpu cannot multiply float32" in problems(found)[0]


def test_wrong_numbers_are_no_success(monkeypatch):
    monkeypatch.setattr(torch, "ones", lambda *shape, **more: torch.full(shape, 2.0))
    assert not devices.multiplies(torch.device("cpu"), torch.float32)


def test_a_full_disk(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda place: usage(9 * disk.GB, 0, 10**8))
    found = disk.examine_disks([tmp_path, tmp_path, tmp_path / "missing"])
    assert len(found.facts) == 1 and "Only 0.1 GB are free" in problems(found)[0]


# --- models


def test_a_good_folder_named_by_itself_or_by_its_parent(folder):
    for place in (folder, folder.parent, folder.parent.parent):
        found = models.examine_models([place])
        assert not found.remarks
        (fact,) = found.facts
        size = sum(file.stat().st_size for file in folder.iterdir())
        assert fact == {
            "path": str(folder),
            "family": "qwen3_vl",
            "bytes": size,
            "dtype": "float32",
            "decoder_layers": 2,
            "width": 64,
            "complete": True,
        }


def test_hugging_faces_cache(folder, tmp_path):
    snapshot = tmp_path / "hub" / "models--someone--Tiny" / "snapshots" / "0123abc"
    shutil.copytree(folder, snapshot)
    for environment in (
        {"HF_HUB_CACHE": str(tmp_path / "hub")},
        {"HF_HOME": str(tmp_path)},
    ):
        found = models.examine_models([], models.usual_places(environment))
        assert [fact["path"] for fact in found.facts] == [str(snapshot)]


def test_models_of_others_are_passed_over_unless_named(folder):
    edit(folder / "config.json", model_type="bert")
    assert models.examine_models([], [folder.parent]).facts == []
    found = models.examine_models([folder])
    assert not found.facts[0]["complete"] and found.facts[0]["family"] == "bert"
    assert "'bert', which this pack cannot run" in problems(found)[0]


def _missing_shard(folder):
    shard(folder)
    next(folder.glob("model-00002-of-*.safetensors")).unlink()


BROKEN = {
    "a missing shard": (_missing_shard, "lacks model-00002-of-"),
    "a damaged config": (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
    "a file cut short": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x40" + bytes(99)),
        "not a whole safetensors file",
    ),
    "a LoRA beside it": (
        lambda folder: (folder / "adapter_config.json").write_text("{}"),
        "LoRA adapter (adapter_config.json), which is not applied",
    ),
    "another size": (
        lambda folder: edit(
            folder / "config.json",
            text_config={**json.loads((folder / "config.json").read_text())["text_config"]}
            | {"intermediate_size": 256},
        ),
        "have another size than config.json says",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder(folder, name):
    damage, words = BROKEN[name]
    damage(folder)
    found = models.examine_models([folder])
    (text,) = problems(found)
    assert words in text and str(folder) in text
    assert found.facts[0]["complete"] == (name == "a LoRA beside it")


def test_a_place_that_is_not_there(tmp_path):
    found = models.examine_models([tmp_path / "nothing"])
    assert "There is no folder" in problems(found)[0]


# --- ComfyUI


@pytest.fixture
def checkout(tmp_path):
    """A folder that looks like a ComfyUI whose Python is this one."""
    root = tmp_path / "ComfyUI"
    (root / "models" / "VLM").mkdir(parents=True)
    (root / "main.py").write_text("")
    (root / "comfyui_version.py").write_text('__version__ = "0.33.0"\n')
    return root


def test_a_good_comfyui(checkout):
    found = comfyui.examine_comfyui(checkout, {"COMFYUI_PYTHON": sys.executable})
    assert not problems(found)
    (fact,) = found.facts
    assert fact["version"] == "0.33.0" and fact["models"] == [str(checkout / "models" / "VLM")]
    assert fact["packages"]["transformers"] == versions._installed("transformers")


def test_an_old_comfyui_without_a_python(checkout):
    (checkout / "comfyui_version.py").write_text('__version__ = "0.3.9"\n')
    said = problems(comfyui.examine_comfyui(None, {"COMFYUI_PATH": str(checkout)}))
    assert len(said) == 2 and "No Python was found" in said[0] and "older than 0.26.0" in said[1]


def test_a_python_that_does_not_run(checkout, tmp_path):
    environment = {"COMFYUI_PYTHON": str(tmp_path / "no python")}
    assert "does not run" in problems(comfyui.examine_comfyui(checkout, environment))[0]


def test_old_packages_in_comfyui(checkout, monkeypatch):
    there = {"torch": "2.11", "transformers": "4.30.0", "einops": None}
    monkeypatch.setattr(comfyui, "_packages", lambda python, found: there)
    environment = {"COMFYUI_PYTHON": sys.executable}
    said = problems(comfyui.examine_comfyui(checkout, environment))
    assert len(said) == 2 and all(text.startswith("In ComfyUI's Python") for text in said)
    assert "einops is not installed" in said[1] and "-m pip install" in said[1]


def test_not_a_comfyui(tmp_path):
    assert "no main.py" in problems(comfyui.examine_comfyui(tmp_path))[0]


# --- the command


def test_a_good_setup_ends_with_0(alone, folder, capsys, monkeypatch):
    monkeypatch.setattr(command, "check_family", lambda family: None)
    assert main(["doctor", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"{folder}: qwen3_vl" in out and "complete" in out and "Nothing is wrong." in out
    assert "Llama 3 (llama): works" in out and "GB free" in out and "cpu (" in out


def test_a_broken_setup_ends_with_1(alone, folder, capsys):
    _missing_shard(folder)
    assert main(["doctor", "--no-self-check", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "CANNOT BE LOADED" in out and "Problems: 1" in out
    assert "lacks model-00002-of-" in " ".join(out.split())


def test_json(alone, folder, capsys, monkeypatch):
    monkeypatch.setattr(command, "check_family", {"llama": "Llama is off."}.get)
    assert main(["doctor", "--json", str(folder)]) == 1
    data = json.loads(capsys.readouterr().out)
    parts = ["versions", "families", "devices", "models", "comfyui", "disks"]
    assert list(data) == [*parts, "problems", "notes", "healthy"]
    assert data["healthy"] is False and data["comfyui"] == []
    assert [problem["where"] for problem in data["problems"]] == ["llama"]
    assert [note["where"] for note in data["notes"] if note["where"] != "cuda"] == ["ComfyUI"]


def test_problems_come_first(alone, tmp_path):
    found = examination.examine([tmp_path / "none"], check=None)
    kinds = [remark.problem for remark in found.remarks]
    assert kinds == sorted(kinds, reverse=True) and not found.healthy
