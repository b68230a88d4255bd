"""The digest of a model: the same for the same weights, another for any other model."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vlm
from vlm.running.fingerprint import fingerprint

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_same_in_another_process(tmp_path):
    code = (
        "import vlm; from vlm.running.fingerprint import fingerprint; import sys;"
        "sys.stdout.write(fingerprint(vlm.load('tiny', layers=2).backbone))"
    )
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    model = vlm.load("tiny", layers=2)
    assert other.stdout == fingerprint(model.backbone) and len(other.stdout) == 64


@pytest.mark.slow
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


def test_of_where_it_will_run_and_not_where_it_lies():
    backbone = vlm.load("tiny", layers=1).backbone
    lies = fingerprint(backbone)
    assert fingerprint(backbone, device=torch.device("cpu")) == lies
    assert fingerprint(backbone, device=torch.device("cuda", 1)) != lies
    assert fingerprint(backbone, device=torch.device("cuda", 1)) == fingerprint(
        backbone, device=torch.device("cuda", 0)
    )


def test_of_the_files_weights_while_patches_are_written_into_them():
    backbone = vlm.load("tiny", layers=1).backbone
    before = fingerprint(backbone, "a LoRA")
    weight = backbone.text.layers[0].mlp.up_proj.weight
    kept = weight.detach().clone()
    weight.data += 1
    assert fingerprint(backbone, "a LoRA") != before
    assert fingerprint(backbone, "a LoRA", unpatched={id(weight): kept}) == before
