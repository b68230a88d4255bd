"""The digest of a model: the same for the same weights, another for any other model."""

import subprocess
import sys
from pathlib import Path

import torch

import vlm
from vlm.running.fingerprint import fingerprint

ROOT = Path(__file__).parents[2]


def test_the_same_in_another_process(tmp_path):
    code = (
        "import vlm; from vlm.running.fingerprint import fingerprint; import sys;"
        "sys.stdout.write(fingerprint(vlm.load('tiny', layers=2).backbone))"
    )
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    model = vlm.load("tiny", layers=2)
    assert other.stdout == fingerprint(model.backbone) and len(other.stdout) == 64


def test_another_for_other_weights_sizes_dtypes_and_patches():
    model = vlm.load("tiny", layers=2)
    seen = {
        fingerprint(model.backbone),
        fingerprint(model.backbone, "a patch"),
        fingerprint(vlm.load("tiny", layers=3).backbone),
        fingerprint(vlm.load("tiny", layers=2, dtype="bfloat16").backbone),
    }
    text = model.backbone.text
    for weight in (text.norm.weight, text.layers[1].mlp.up_proj.weight):
        with torch.no_grad():
            weight.view(-1)[-1] += 1
        seen.add(fingerprint(model.backbone))
    assert len(seen) == 6
