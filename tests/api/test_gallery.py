"""workflows/api/gallery.py: pictures that `python -m vlm evaluate` measures."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image
from played_comfy import STYLE, load, of_class

gallery = load("gallery")
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [
    "--setting", "weak: VLMCAlphaBlend.alpha=0.1",
    "--setting", "strong: VLMCAlphaBlend.alpha=0.5; VLMCHiddenLayerSelect.layers=-6",
]  # fmt: skip


@pytest.fixture
def cases(tmp_path):
    """Two cases: one with a reference and seeds of its own, one with words alone."""
    Image.new("RGB", (16, 16), "red").save(tmp_path / "boat.png")
    lines = [
        {"name": "boat", "prompt": "a boat", "reference": "boat.png", "seeds": [7, 8]},
        {"name": "dog", "prompt": "a dog"},
    ]
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return file


def make_gallery(comfy, cases, *words):
    more = [*SETTINGS, "--server", comfy.address, "--out", str(cases.parent / "out"), *words]
    return gallery.main([str(STYLE), str(cases), *more])


def test_a_gallery_is_what_evaluate_pairs(comfy, cases, capsys):
    from vlm.evaluate.cases import read_cases
    from vlm.evaluate.results import find_results

    assert make_gallery(comfy, cases, "--seeds", "1") == 0
    queued = [
        (
            of_class(p, "VLMCAlphaBlend")["alpha"],
            of_class(p, "PrimitiveStringMultiline")["value"],
            of_class(p, "LoadImage")["image"],
            of_class(p, "KSampler")["seed"],
        )
        for p in comfy.prompts
    ]
    of_one = [
        ("a boat", "cat (1).png", 7),
        ("a boat", "cat (1).png", 8),
        ("a dog", "example.png", 1),
    ]
    assert queued == [(alpha, *each) for alpha in (0.1, 0.5) for each in of_one]
    assert [of_class(p, "VLMCHiddenLayerSelect")["layers"] for p in comfy.prompts[2:4]] == [
        "auto", -6
    ]  # fmt: skip
    known = read_cases(cases)
    for name in ("weak", "strong"):
        setting, notes = find_results(name, cases.parent / "out" / name, known)
        assert set(setting.files) == {("boat", "7"), ("boat", "8"), ("dog", "1")}
        assert notes == []
    assert "vlm evaluate weak=" in capsys.readouterr().out


def test_a_gallery_goes_on_and_knows_what_changed(comfy, cases):
    assert make_gallery(comfy, cases) == 0
    assert make_gallery(comfy, cases) == 0
    assert len(comfy.prompts) == 6
    (cases.parent / "out" / "weak" / "dog_1.png").unlink()
    cases.write_text(cases.read_text(encoding="utf-8").replace("a boat", "a ship"), "utf-8")
    assert make_gallery(comfy, cases) == 0
    assert len(comfy.prompts) == 6 + 1 + 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Line 1 of cases.jsonl is not JSON"),
        ('{"prompt": "x"}', "no name that a file could have"),
        ('{"name": "a", "seeds": [true]}', "seeds whole numbers"),
        ('{"name": "a", "reference": "../x.png"}', "lies outside"),
        ('{"name": "a"}\n{"name": "A"}', "was there before"),
        ("", "holds no case"),
    ],
)
def test_cases_of_a_gallery_that_cannot_be(comfy, cases, capsys, line, said):
    cases.write_text(line, encoding="utf-8")
    assert make_gallery(comfy, cases) == 1
    assert said in capsys.readouterr().err
    assert comfy.prompts == []


def test_a_gallery_takes_one_picture_a_seed(comfy, cases, capsys):
    comfy.pictures = 2
    assert make_gallery(comfy, cases) == 1
    assert "saved 2 pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "x"], "write whole numbers"),
        (["--setting", "weak: KSampler.cfg=2"], "Two settings have one name"),
        (["--setting", "../a: KSampler.cfg=2"], "cannot be the name of a folder"),
        (["--setting", "a: alpha"], "write NAME: NODE.INPUT=VALUE"),
        (["--setting", "a: Nothing.alpha=2"], "has no Nothing"),
    ],
)
def test_options_of_a_gallery_that_cannot_be(comfy, cases, capsys, words, said):
    assert make_gallery(comfy, cases, *words) == 1
    assert said in capsys.readouterr().err
    assert comfy.prompts == []


def test_the_command_of_the_gallery_folder(comfy, tmp_path, monkeypatch, capsys):
    """As its page has it, but for server and folder: each case at each of four strengths."""
    page = (ROOT / "gallery" / "README.md").read_text(encoding="utf-8")
    block = page.split("```\n")[1]
    words = shlex.split(block.replace("\\\n", " "))
    assert words[:2] == ["python", "workflows/api/gallery.py"]
    words[words.index("--out") + 1] = str(tmp_path / "out")
    monkeypatch.chdir(ROOT)
    assert gallery.main([*words[2:], "--server", comfy.address]) == 0
    assert [of_class(p, "VLMCPicture")["strength"] for p in comfy.prompts] == [
        strength for strength in (0, 0.5, 1, 2) for _ in range(3)
    ]
    assert len({of_class(p, "VLMCImagePrompt")["prompt"] for p in comfy.prompts}) == 3
    assert len([*(tmp_path / "out").glob("strength */*_1.png")]) == 12
    assert "12 of 12 made" in capsys.readouterr().out
