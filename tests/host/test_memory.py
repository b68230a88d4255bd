"""Memory: weights under ComfyUI's management, and nothing that outlives its use."""

from __future__ import annotations

import pytest
import torch
from graphs import node
from pack_graphs import blended, dump, picture, sampled, seen

WEIGHTS = "Backbone"  # the class under which ComfyUI lists our model


@pytest.fixture(scope="module")
def classic(start_comfy):
    host = start_comfy("--cache-classic")
    host.free()  # other modules left a model with pictures of theirs
    return host


def states_of(result) -> torch.Tensor:
    return result.dump("dump")[0].tensor


def test_weights_go_when_asked_and_come_back(comfy):
    first = comfy.run(seen("first", picture(0x0A0B0C)))
    assert WEIGHTS in comfy.loaded_models()
    comfy.free(unload_models=True, free_memory=False)
    assert comfy.loaded_models() == []
    second = comfy.run(seen("second", picture(0x0A0B0C)))
    assert "vlm" in second.cached  # the same model, loaded again for a new prompt
    assert WEIGHTS in comfy.loaded_models()
    comfy.free(unload_models=True, free_memory=False)
    deeper = seen("second", picture(0x0A0B0C))
    deeper["layer"]["inputs"]["layers"] = "-2"
    comfy.run(deeper)
    assert WEIGHTS in comfy.loaded_models()
    comfy.free()
    assert torch.equal(states_of(comfy.run(seen("first", picture(0x0A0B0C)))), states_of(first))


def test_the_weights_stand_beside_a_samplers(comfy):
    comfy.free()
    comfy.run(sampled(seen("beside", picture(0x0D0E0F)), "layer"))
    assert {WEIGHTS, "Lumina2"} <= set(comfy.loaded_models())


OURS = ("VLM", "Backbone", "HiddenStates", "Prefix", "Tokens", "ModelPatcher")


def test_freeing_leaves_nothing_of_ours(comfy):
    comfy.run(sampled(blended("freed", pictures=(picture(0x1A1B1C),)), "blend"))
    assert min(comfy.live("VLM", "Backbone", "HiddenStates", "Prefix").values()) >= 1
    comfy.free()
    # Without a run of the garbage collector: nothing of ours refers to itself.
    alive = comfy.live(*OURS)
    assert {name: n for name, n in alive.items() if n} == {}


def test_changed_prompts_do_not_pile_up(classic):
    counts = []
    for i in range(15):
        classic.run(blended(f"prompt number {i}", pictures=(picture(0x2A2B2C),)))
        counts.append(classic.live("HiddenStates", "VLM", "Prefix"))
    assert counts[-1] == counts[2] == {"HiddenStates": 1, "VLM": 1, "Prefix": 1}


def test_the_prefix_cache_is_bounded(classic):
    def prompt(color: int) -> dict:
        made = seen("bounded", picture(color))
        made["vlm"]["inputs"]["prefix_cache_mb"] = 2
        return made

    for i in range(6):
        classic.run(prompt(0x010203 * i))
    # 29 layers of 69 tokens, 64 values of the stream and 64 of keys and values: 1 MB a picture.
    assert 1 <= classic.live("Prefix")["Prefix"] <= 2
    classic.run(
        {
            "dump": dump("words"),
            "words": node("TestTinyConditioning", width=8, tokens=2, pooled=0, name="x"),
        }
    )
    assert classic.live("VLM", "Prefix", "HiddenStates") == {
        "VLM": 0, "Prefix": 0, "HiddenStates": 0
    }  # fmt: skip


def test_a_changed_model_lets_the_old_one_go(classic):
    for dtype in ("float32", "bfloat16", "float32"):
        prompt = seen("another dtype", picture(0x3A3B3C))
        prompt["vlm"]["inputs"]["dtype"] = dtype
        classic.run(prompt)
        assert classic.live("VLM", "Backbone") == {"VLM": 1, "Backbone": 1}
