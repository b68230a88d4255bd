"""ComfyUI's prompt syntax on VLM Encode in a real ComfyUI: its embeddings folder, its warnings."""

from __future__ import annotations

import pytest
import torch
from comfy_result import PromptFailed
from pack_graphs import seen
from safetensors.torch import save_file
from test_encode import near

VECTORS = torch.randn(3, 64, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def folder(comfy):
    """ComfyUI's embeddings folder, with one that fits and one that does not."""
    made = comfy.base / "models" / "embeddings" / "of-tests"
    made.mkdir(parents=True, exist_ok=True)
    save_file({"emb_params": VECTORS}, made / "fits.safetensors")
    save_file({"emb_params": torch.zeros(2, 768)}, made / "other.safetensors")
    return made


def test_an_embedding_of_comfyuis_folder(comfy, folder, oracle):
    import vlm

    result = comfy.run(seen(r"a \(red\) embedding:of-tests/fits house", None))
    syntax = vlm.PromptSyntax({"fits": VECTORS})
    states = oracle.encode("a (red) embedding:fits house", target="z-image", syntax=syntax)
    (entry,) = result.dump("dump")
    assert near(entry.tensor, states.layer(-2))


def test_what_is_missing_and_a_typed_template_are_told_on_the_node(comfy):
    text = "<|im_start|>user\na embedding:nothing house"
    line = comfy.run(seen(text)).text("encode")
    assert "'embedding:nothing' was not found and is left out" in line
    assert "Choose the layout with `template` on VLM Encode, write the system text into" in line


def test_another_width_is_refused_with_both_numbers(comfy, folder):
    with pytest.raises(PromptFailed) as caught:
        comfy.run(seen("a embedding:other house"))
    assert (caught.value.node, caught.value.kind) == ("encode", "ValueError")
    assert "768 wide, the tokens of this VLM are 64 wide" in caught.value.text


def test_weights_scale_the_states(comfy, oracle):
    result = comfy.run(seen("a (red:1.5) house", target="krea2", weights="scale states"))
    assert "1 weighed" in result.text("encode")
    plain = comfy.run(seen("a red house", target="krea2"))
    weighed, unweighed = (each.dump("dump")[0].tensor for each in (result, plain))
    factors = (weighed / unweighed).nanmedian(dim=2).values[0]
    assert sorted(factors.tolist()) == pytest.approx([1.0] * (len(factors) - 1) + [1.5])


def test_weights_that_nobody_reads_are_refused(comfy):
    with pytest.raises(PromptFailed) as caught:
        comfy.run(seen("a (red:1.5) house", weights="scale states"))
    assert "Set `weights` to as native" in caught.value.text
