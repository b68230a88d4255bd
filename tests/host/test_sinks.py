"""Statistics without sinks in a real ComfyUI: the widget `published`, evidence, the .npz."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from graphs import node
from pack_graphs import conditioning, dump

from vlm.tokens.normalize import normalize
from vlm.tokens.stats import Stats, measure_stats
from vlm.tokens.tokens import Tokens

MEASURE = "measure the inputs"
WIDTH = 64


@pytest.fixture
def stats_folder(models):
    folder = models / "vlm_stats"
    folder.mkdir(exist_ok=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def normalized(**inputs) -> dict:
    """Per-dim Normalize of words against saved statistics."""
    return {
        "words": conditioning("words", WIDTH, 20),
        "stats": node("VLMCReferenceStats", source="other.npz"),
        "normal": node(
            "VLMCPerDimNormalize", conditioning=["words", 0], mode="per_dim", strength=1.0,
            stats=["stats", 0], **inputs,
        ),
        "dump": dump("normal"),
        "plain": dump("words"),
    }  # fmt: skip


def test_the_researchs_file_is_read_without_its_massive_dimensions(comfy, stats_folder):
    mean, std = np.zeros(WIDTH), np.full(WIDTH, 5.0)
    std[[4, 39]] = 2753, 949
    np.savez(stats_folder / "other.npz", per_dim_mean=mean, per_dim_std=std, global_std=365.0)
    comfy.wait_for_option("VLMCReferenceStats", "source", "other.npz")
    result = comfy.run(normalized())
    (out,), (words,) = result.dump("dump"), result.dump("plain")
    stats = Stats(mean, std, global_std=365.0)
    want = normalize(Tokens(words.tensor), stats, "per_dim").states
    assert torch.allclose(out.tensor, want, atol=1e-5)
    assert out.tensor.std(dim=1).max() < 10
    assert "reference 5 without massive dimensions" in result.text("normal")
    assert "massive dimensions 4, 39" in result.text("stats")
    published = comfy.run(normalized(published=True))
    assert published.dump("dump")[0].tensor.std(dim=1).max() > 1000
    assert "reference 365, sink tokens included" in published.text("normal")


def test_few_tokens_are_warned_about_with_their_number(comfy):
    def measured(tokens: int, prompts: int) -> str:
        wired = {f"conditionings__conditioning{i}": [f"words{i}", 0] for i in range(prompts)}
        graph = {f"words{i}": conditioning(f"few {i}", WIDTH, tokens) for i in range(prompts)}
        graph["stats"] = node("VLMCReferenceStats", source=MEASURE, prompts="one\ntwo", **wired)
        return comfy.run(graph).text("stats")

    line = measured(12, 2)
    assert line.startswith("measured, 24 tokens of 2 prompts, 0 of them sinks, 64 wide")
    assert "only 24 tokens were measured" in line and "15%" in line
    assert "only" not in measured(200, 2)


def test_the_reference_wire_measures_without_sinks(comfy):
    prompt = normalized()
    del prompt["stats"], prompt["normal"]["inputs"]["stats"]
    prompt["reference"] = conditioning("reference", WIDTH, 30)
    prompt["normal"]["inputs"]["reference"] = ["reference", 0]
    prompt["reference out"] = dump("reference")
    result = comfy.run(prompt)
    stats = measure_stats(Tokens(result.dump("reference out")[0].tensor))
    want = normalize(Tokens(result.dump("plain")[0].tensor), stats, "per_dim").states
    assert torch.allclose(result.dump("dump")[0].tensor, want, atol=1e-5)
    assert "without 0 sink tokens" in result.text("normal")
