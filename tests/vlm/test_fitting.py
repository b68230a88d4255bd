"""Which model suits a target, from what files say; transformers' own reading is the oracle."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm.families import FAMILIES
from vlm.fitting import ModelFacts, best_for, fix_width, read_facts
from vlm.targets import TARGETS, find_target
from vlm.tiny.folder import write_tiny

# Sizes of published models, from their config.json.
PUBLISHED = {
    "Qwen3-VL-4B": ModelFacts("qwen3_vl", 2560, 37),
    "Qwen3-VL-8B": ModelFacts("qwen3_vl", 4096, 37),
    "Qwen3-VL-32B": ModelFacts("qwen3_vl", 5120, 65),
    "Qwen2.5-VL-7B": ModelFacts("qwen2_5_vl", 3584, 29),
    "Qwen2-VL-7B": ModelFacts("qwen2_vl", 3584, 29),
    "Qwen3-4B": ModelFacts("qwen3", 2560, 37),
    "Gemma 3 4B": ModelFacts("gemma3", 2560, 35),
    "Qwen3.5-4B": ModelFacts("qwen3_5", 2560, 33),
    "SmolVLM2-2.2B": ModelFacts("smolvlm", 2048, 25),
}


@pytest.mark.parametrize(
    ("target", "want"),
    [
        ("z-image", "Qwen3-VL-4B"),
        ("krea2", "Qwen3-VL-4B"),
        ("krea2-edit", "Qwen3-VL-4B"),
        ("flux2-klein-4b", "Qwen3-VL-4B"),
        ("flux2-klein-9b", "Qwen3-VL-8B"),
        ("qwen-image", "Qwen2.5-VL-7B"),
        ("qwen-image-2.1", "Qwen3-VL-8B"),
        ("hunyuan-image", "Qwen2.5-VL-7B"),
        ("minimax-h3", "Qwen3-VL-32B"),
        ("ideogram4", "Qwen3-VL-8B"),
        ("flux1", None),
        ("qwen2vl-flux", None),
        ("chat", None),
    ],
)
def test_best_for_each_target(target, want):
    # Worst first: the order must not decide.
    there = dict(reversed(PUBLISHED.items()))
    assert best_for(find_target(target), there) == want


def test_every_target_that_reads_layers_has_a_published_model_that_suits():
    for name, row in TARGETS.items():
        found = best_for(row, PUBLISHED)
        assert (found is not None) == (row.layers is not None and row.width is not None), name


def test_among_equals_a_known_name_comes_first_and_a_blind_model_last():
    four = PUBLISHED["Qwen3-VL-4B"]
    there = {"blind": PUBLISHED["Qwen3-4B"], "a": four, "b": four}
    target = find_target("z-image")
    assert best_for(target, there) == "a"
    assert best_for(target, there, known=("b", "blind")) == "b"
    assert best_for(target, {"blind": there["blind"]}) == "blind"
    shallow = {"cut": ModelFacts("qwen3_vl", 5120, 40)}
    assert best_for(find_target("minimax-h3"), shallow) is None


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl", "gemma3", "smolvlm", "internvl", "qwen3"])
def test_a_folder_says_what_transformers_reads(kind, tmp_path):
    from transformers import AutoConfig

    folder = write_tiny(tmp_path / kind, kind, layers=6)
    text = AutoConfig.from_pretrained(folder).get_text_config()
    facts = read_facts(folder)
    assert facts == ModelFacts(kind, text.hidden_size, text.num_hidden_layers + 1)
    assert facts.sees == (FAMILIES[kind].vision is not None)


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3"])
def test_a_single_file_says_the_same_as_its_folder(kind, tmp_path):
    folder = write_tiny(tmp_path / "folder", kind, layers=5)
    weights = {}
    for file in folder.glob("*.safetensors"):
        weights |= load_file(file)
    save_file(weights, tmp_path / "one.safetensors")
    assert read_facts(tmp_path / "one.safetensors") == read_facts(folder) is not None


@pytest.mark.parametrize(
    "config",
    [
        "no json", "[]", "{}", '{"model_type": ["qwen3_vl"]}', '{"model_type": "bert"}',
        '{"model_type": "qwen3_vl", "text_config": [1], "hidden_size": "wide"}',
    ],
)  # fmt: skip
def test_what_says_nothing_is_nothing(config, tmp_path):
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    assert read_facts(tmp_path) is None
    (tmp_path / "odd.safetensors").write_text(config, encoding="utf-8")
    assert read_facts(tmp_path / "odd.safetensors") is None
    assert read_facts(tmp_path / "gone") is None


def test_other_files_are_no_models(tmp_path):
    save_file({"double_blocks.0.weight": torch.ones(2)}, tmp_path / "dit.safetensors")
    assert read_facts(tmp_path / "dit.safetensors") is None
    config = {"model_type": "qwen3_vl", "text_config": {"hidden_size": 2560}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_facts(tmp_path) is None


def test_what_is_said_of_a_width():
    target = find_target("z-image")
    assert fix_width(target, 2560) == "" == fix_width(find_target("flux1"), 64)
    assert fix_width(find_target("krea2"), 2560) == ""  # twelve layers of it
    assert fix_width(target, 3584, "Choose VLM/mine") == (
        "This VLM is 3584 wide, Z-Image reads 2560 (Qwen3-4B). Choose VLM/mine, or put a "
        "connector in between."
    )
    assert "Load Qwen3-4B or, for pictures, the Qwen3-VL" in fix_width(target, 3584)
