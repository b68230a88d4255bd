"""Lists of files: walked once for a prompt, and right about what is new, replaced or gone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import torch


@pytest.fixture
def walks(folders, monkeypatch):
    """The walks for conditioning files."""
    done, walk = [], folders._CONDITIONINGS._find
    monkeypatch.setattr(folders._CONDITIONINGS, "_find", lambda look: done.append(1) or walk(look))
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
            each, "_find", lambda look, walked=walked, walk=walk: walked.append(1) or walk(look)
        )
        each.forget()
        assert names() == names() and len(walked) == 1


def later(monkeypatch, listing, seconds=5):
    """As if so much time had passed since everything was written, and since the last walk."""
    now, mono = listing.time.time_ns, listing.time.monotonic
    monkeypatch.setattr(listing.time, "time_ns", lambda: now() + int(seconds * 1e9))
    monkeypatch.setattr(listing.time, "monotonic", lambda: mono() + seconds)


def test_nothing_is_walked_again_while_nothing_changes(folders, walks, tmp_path, monkeypatch):
    from pack.nodes import listing

    put(tmp_path / "input" / "deep" / "er" / "a.safetensors")
    later(monkeypatch, listing)
    for turn in range(5):
        later(monkeypatch, listing)
        assert folders.conditioning_names() == ["input/deep/er/a.safetensors"]
        with pytest.raises(FileNotFoundError):
            folders.conditioning_file(f"input/{turn}.safetensors")
    assert len(walks) == 1
    put(tmp_path / "input" / "deep" / "er" / "b.safetensors")
    assert folders.conditioning_file("input/deep/er/b.safetensors").is_file() and len(walks) == 2


def test_names_that_are_not_there_walk_no_folder(folders, walks):
    folders.conditioning_names()
    for turn in range(200):
        with pytest.raises(FileNotFoundError):
            folders.conditioning_file(f"input/{turn}.safetensors")
    assert len(walks) <= 2


def test_a_model_that_appears_in_a_known_folder_is_found(folders, model, tmp_path, monkeypatch):
    from pack.nodes import listing

    empty = tmp_path / "models" / "LLM" / "later"
    empty.mkdir(parents=True)
    later(monkeypatch, listing)
    assert folders.model_names() == ["VLM/good"]
    config(empty / "in", '{"model_type": "qwen3_vl"}')
    assert folders.model_path("LLM/later/in").is_dir()
    (model / "config.json").write_text('{"model_type": "llama-no"}')  # changed in place
    later(monkeypatch, listing)
    assert folders.model_names() == ["LLM/later/in"]
    (tmp_path / "models" / "vlm_connectors").mkdir()
    (tmp_path / "models" / "vlm_connectors" / "a.pt").touch()
    assert folders.connector_file("a.pt").is_file()


@pytest.fixture
def model(folders, tmp_path):
    """A model folder that the loader lists, without weights."""
    folder = tmp_path / "models" / "VLM" / "good"
    config(folder, '{"model_type": "qwen3_vl"}')
    return folder


def config(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(text)


ODD_CONFIGS = (
    '{"model_type": ["qwen3_vl"]}',
    '{"model_type": {}}',
    '["model_type"]',
    "[" * 100_000,
    "\x00",
    "",
)


@pytest.mark.parametrize("text", ODD_CONFIGS, ids=[text[:24] for text in ODD_CONFIGS])
def test_an_odd_config_beside_a_model(folders, model, tmp_path, text, caplog):
    config(tmp_path / "models" / "text_encoders" / "odd", text)
    assert folders.model_names() == ["VLM/good"]
    folders._MODELS.forget()
    assert folders.model_names() == ["VLM/good"]
    assert caplog.text.count("leaves out") <= 1  # said once a change, not at every page load


def header(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content


ODD_FILES = {
    "no header": b"\xff" * 64,
    "deep": header(b"[" * 100_000),
    "a shape of text": header(b'{"a": {"dtype": "F32", "shape": "12"}}'),
    "a shape of lists": header(b'{"a": {"dtype": "F32", "shape": [[1]]}}'),
    "a dtype that is a list": header(b'{"a": {"dtype": [], "shape": [1]}}'),
}


@pytest.mark.parametrize("what", ODD_FILES)
def test_an_odd_file_beside_a_model(folders, model, tmp_path, what, caplog):
    (tmp_path / "models" / "VLM" / "odd.safetensors").write_bytes(ODD_FILES[what])
    assert folders.model_names() == ["VLM/good"]
    assert "leaves out" in caplog.text and "odd.safetensors" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_links_to_nowhere_and_names_of_other_bytes(folders, model, tmp_path):
    root = tmp_path / "models" / "VLM"
    (tmp_path / "models" / "vlm_stats").mkdir()
    (root / "pipes").mkdir()
    for place in ("VLM/p.safetensors", "VLM/qwen-vl.gguf", "VLM/pipes/config.json"):
        os.mkfifo(tmp_path / "models" / place)
    os.mkfifo(tmp_path / "models" / "vlm_stats" / "p.safetensors")
    (root / "loop").symlink_to(root / "loop")
    (root / "loop.safetensors").symlink_to(root / "loop.safetensors")
    config(Path(os.fsdecode(os.fsencode(root) + b"/\xff")), '{"model_type": "qwen3_vl"}')
    (tmp_path / "models" / "Vlm").symlink_to(tmp_path / "gone")
    assert folders.model_names() == ["VLM/good"] and folders.stats_names() == []


@pytest.mark.skipif(os.name == "nt", reason="no paths of that length here")
def test_folders_a_thousand_deep(folders, tmp_path):
    root = tmp_path / "models" / "vlm_connectors"
    places = [root, *(root / "/".join("a" * deep) for deep in range(1, 1200))]
    for place in places:
        place.mkdir()
    for deep in (0, 1, 1199):
        (places[deep] / "b.pt").touch()
    (root / "c.pt").touch()
    deepest = "a/" * 1199 + "b.pt"
    try:
        assert folders.connector_names() == ["b.pt", "c.pt", "a/b.pt", deepest]
        assert folders.connector_file(deepest).is_file()
    finally:  # pytest's own way of tidying calls itself for each
        for place in reversed(places):
            for file in place.glob("*.pt"):
                file.unlink()
            place.rmdir()


def test_a_second_name_of_a_model_works(folders, model, tmp_path):
    (tmp_path / "models" / "LLM").mkdir()
    (tmp_path / "models" / "LLM" / "alias").symlink_to(model)
    assert folders.model_names() == ["VLM/good"]
    assert folders.model_path("LLM/alias").samefile(model)
    with pytest.raises(FileNotFoundError, match="There is no VLM called"):
        folders.model_path("LLM/../VLM/good")


def test_the_layout_of_hugging_faces_cache_is_listed(folders, tmp_path):
    for above in ("", "hub/"):
        place = f"{above}models--someone--tiny/snapshots/0123abc"
        config(tmp_path / "models" / "LLM" / place, '{"model_type": "qwen3_vl"}')
    assert folders.model_names() == [
        "LLM/models--someone--tiny/snapshots/0123abc",
        "LLM/hub/models--someone--tiny/snapshots/0123abc",
    ]


def test_a_model_in_a_folder_of_its_name_is_listed(folders, tmp_path):
    for place in ("LLM/Qwen-VL/a/a", "VLM/b/b", "VLM/c/d"):
        config(tmp_path / "models" / place, '{"model_type": "qwen3_vl"}')
    assert folders.model_names() == ["VLM/b/b", "VLM/c/d", "LLM/Qwen-VL/a/a"]


ODD_NAMES = (
    "\x1b[2Jx",
    "a\tb",
    "a" * 300,
    "a\ud800",
    "nul",
    "Con.x",
    "a" * 2000,
    "",
    "../a",
    " / ",
)


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name)[:12])
def test_names_that_no_file_can_have_are_refused_when_queued(folders, name):
    from pack.nodes.files import SaveConditioning
    from pack.nodes.stats import ReferenceStats

    said = SaveConditioning.validate_inputs(name=name)
    assert "name on Save VLM Conditioning" in said and len(said) < 600
    if name:  # empty = not saved
        said = ReferenceStats.validate_inputs(save_as=name)
        assert "save_as on VLM Reference Statistics" in said and len(said) < 600


@pytest.mark.parametrize("name", ["style", "cats/style", "a. b", "Müller/家.safetensors", "%year%"])
def test_names_that_files_can_have(folders, name):
    from pack.nodes.files import SaveConditioning

    assert SaveConditioning.validate_inputs(name=name) is True


def test_what_suits_a_target_is_found_once_a_list(folders, monkeypatch, tmp_path):
    """ComfyUI asks for it with every schema."""
    from pack.nodes import fitting

    fits = fitting._Fits()
    size = '"hidden_size": 2560, "num_hidden_layers": 36'
    config(tmp_path / "models/VLM/a", f'{{"model_type": "qwen3_vl", "text_config": {{{size}}}}}')
    folders.forget_models()
    assert fits()["z-image"] == "VLM/a"
    asked = []
    monkeypatch.setattr(fitting, "_listed", lambda: asked.append(1) or {})
    assert fits()["z-image"] == "VLM/a" and asked == []
    config(tmp_path / "models/VLM/b", '{"model_type": "qwen3_vl"}')
    folders.forget_models()
    assert fits() == {} and asked == [1]
