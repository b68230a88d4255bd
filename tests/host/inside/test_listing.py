"""Lists of files: walked once for a prompt, and right about what is new, replaced or gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

FOLDERS = ("input", "output", "models", "user", "temp")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The pack's lists over empty folders of ComfyUI."""
    import folder_paths
    from pack.nodes import folders

    for name in FOLDERS:
        (tmp_path / name).mkdir()
        getter = f"get_{name}_directory"
        if hasattr(folder_paths, getter):
            monkeypatch.setattr(folder_paths, getter, lambda name=name: str(tmp_path / name))
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    lists = [folders._MODELS, folders._CONNECTORS, folders._STATS, folders._CONDITIONINGS]
    for each in lists:
        each.forget()
    yield folders
    for each in lists:
        each.forget()


@pytest.fixture
def walks(folders, monkeypatch):
    """The walks for conditioning files."""
    done, walk = [], folders._CONDITIONINGS._find
    monkeypatch.setattr(folders._CONDITIONINGS, "_find", lambda: done.append(1) or walk())
    return done


def put(file: Path) -> None:
    """A file with a conditioning."""
    import pack.vlm as vlm
    from pack.vlm.conditioning.file import save_conditioning

    file.parent.mkdir(parents=True, exist_ok=True)
    save_conditioning([vlm.Entry(vlm.Tokens(torch.zeros(1, 4, 8)), {})], file)


def test_one_walk_for_one_prompt(folders, walks, tmp_path):
    import execution
    from pack.nodes import NODES

    import nodes

    put(tmp_path / "output" / "vlm_conditioning" / "a.safetensors")
    ours = {each.GET_SCHEMA().node_id: each for each in NODES}
    prompt = {
        "1": {"class_type": "VLMCLoadConditioning", "inputs": {"file": "output/a.safetensors"}},
        "2": {
            "class_type": "VLMCSaveConditioning",
            "inputs": {"conditioning": ["1", 0], "name": "b", "if_exists": "overwrite"},
        },
    }
    walks.clear()
    folders._CONDITIONINGS.forget()
    with pytest.MonkeyPatch.context() as patch:
        for name, each in ours.items():
            patch.setitem(nodes.NODE_CLASS_MAPPINGS, name, each)
        assert asyncio.run(execution.validate_prompt("p", prompt, None))[0]
    assert folders.conditioning_fingerprint("output/a.safetensors") is not None
    assert len(walks) == 1


def test_a_new_file_is_found_at_once(folders, walks, tmp_path):
    assert folders.conditioning_names() == [folders.NO_CONDITIONING]
    put(tmp_path / "input" / "new.safetensors")
    assert folders.conditioning_file("input/new.safetensors").is_file() and len(walks) == 2
    assert folders.conditioning_names() == ["input/new.safetensors"] and len(walks) == 2


def test_a_file_that_is_gone_is_not_given(folders, tmp_path):
    put(tmp_path / "input" / "gone.safetensors")
    file = folders.conditioning_file("input/gone.safetensors")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="no conditioning file called"):
        folders.conditioning_file("input/gone.safetensors")
    assert folders.conditioning_fingerprint("input/gone.safetensors") is None


def test_a_replaced_file_has_another_fingerprint(folders, tmp_path):
    put(tmp_path / "input" / "a.safetensors")
    before = folders.conditioning_fingerprint("input/a.safetensors")
    (tmp_path / "input" / "a.safetensors").write_bytes(b"shorter")
    assert folders.conditioning_fingerprint("input/a.safetensors") != before


def test_a_file_about_to_be_saved_is_listed(folders, tmp_path):
    assert folders.conditioning_names() == [folders.NO_CONDITIONING]
    label, file = folders.new_conditioning_file("mine", numbered=False)
    put(file)
    assert folders.conditioning_names() == [label]
    assert folders.stats_names() == []
    stats = folders.new_stats_file("mine")
    stats.parent.mkdir()
    stats.touch()
    assert folders.stats_names() == ["mine.safetensors"]


def test_a_list_is_walked_again_after_a_moment(folders, walks, monkeypatch, tmp_path):
    from pack.nodes import listing

    folders.conditioning_names()
    put(tmp_path / "input" / "new.safetensors")
    monkeypatch.setattr(listing, "FRESH_SECONDS", -1.0)
    assert folders.conditioning_names() == ["input/new.safetensors"] and len(walks) == 2


@pytest.mark.parametrize("empty", [True, False])
def test_every_list_is_kept(folders, tmp_path, monkeypatch, empty):
    if not empty:
        for place in ("vlm_stats/a.safetensors", "vlm_connectors/a.safetensors"):
            (tmp_path / "models" / place).parent.mkdir(parents=True)
            (tmp_path / "models" / place).touch()
    for each, names in (
        (folders._STATS, folders.stats_names),
        (folders._CONNECTORS, folders.connector_names),
        (folders._MODELS, folders.model_names),
    ):
        walked, walk = [], each._find
        monkeypatch.setattr(
            each, "_find", lambda walked=walked, walk=walk: walked.append(1) or walk()
        )
        each.forget()
        assert names() == names() and len(walked) == 1
