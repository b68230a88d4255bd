"""workflows/api/gallery.py with a real ComfyUI: pictures with their settings, then measured."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from comfy_find import REPO
from PIL import Image
from workflow_tools import API

SETTINGS = ("weak: VLMCAlphaBlend.alpha=0.1", "strong: VLMCAlphaBlend.alpha=0.9")


@pytest.fixture(scope="module")
def host(public_vlm, comfy):
    return comfy


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, as a person gives it."""
    return subprocess.run(words, cwd=REPO, capture_output=True, text=True, timeout=300)


def test_a_gallery_is_made_and_measured(host, tmp_path):
    pytest.importorskip("torchmetrics")
    Image.new("RGB", (96, 64), "#cc8844").save(tmp_path / "boat.png")
    case = {"name": "boat", "prompt": "a boat at dusk", "reference": "boat.png"}
    (tmp_path / "cases.jsonl").write_text(json.dumps(case))
    small = "EmptySD3LatentImage.width=64; EmptySD3LatentImage.height=64; KSampler.steps=2"
    command = [
        sys.executable, str(API / "gallery.py"), str(API / "z-image-picture-style.json"),
        str(tmp_path / "cases.jsonl"), "--server", host.url, "--out", str(tmp_path / "out"),
        "--seeds", "1,2", *(w for each in SETTINGS for w in ("--setting", f"{each}; {small}")),
    ]  # fmt: skip
    made = run(*command)
    assert made.returncode == 0, made.stderr
    assert "4 of 4 made" in made.stdout
    assert "0 of 4 made" in run(*command).stdout
    for setting, alpha in (("weak", 0.1), ("strong", 0.9)):
        for seed in (1, 2):
            with Image.open(tmp_path / "out" / setting / f"boat_{seed}.png") as picture:
                graph = json.loads(picture.text["prompt"]).values()
            inside = {each["class_type"]: each["inputs"] for each in graph}
            assert inside["VLMCAlphaBlend"]["alpha"] == alpha
            assert inside["KSampler"]["seed"] == seed
    # The command that it says, as it says it.
    words = shlex.split(made.stdout.splitlines()[-1])
    numbers = tmp_path / "numbers.json"
    measured = run(sys.executable, *words[1:], "--device", "cpu", "--json", str(numbers))
    assert measured.returncode == 0, measured.stderr
    assert "SSIM" in measured.stdout and "weak" in measured.stdout and "strong" in measured.stdout
    assert numbers.is_file()
