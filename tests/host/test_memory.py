"""Memory: weights under ComfyUI's management, and nothing that outlives its use."""

from __future__ import annotations

import pytest
import torch
from clip_graphs import from_clip
from graphs import node
from pack_graphs import blended, dump, picture, sampled, seen

WEIGHTS = {"LanguageModel", "VisionTower"}  # the classes under which ComfyUI lists our model
OURS = ("VLM", "HuggingFaceBackbone", "HiddenStates", "Prefix")


@pytest.fixture(scope="module")
def classic(start_comfy):
    host = start_comfy("--cache-classic")
    host.free()  # other modules left a model with pictures of theirs
    return host


def states_of(result) -> torch.Tensor:
    return result.dump("dump")[0].tensor


def test_weights_go_when_asked_and_come_back(comfy):
    first = comfy.run(seen("first", picture(0x0A0B0C)))
    assert set(comfy.loaded_models()) == WEIGHTS
    comfy.free(unload_models=True, free_memory=False)
    assert comfy.loaded_models() == []
    second = comfy.run(seen("second", picture(0x0A0B0C)))
    assert "vlm" in second.cached  # the same model, loaded again for a new prompt
    # The picture is known, so that the part that sees can stay away.
    assert comfy.loaded_models() == ["LanguageModel"]
    comfy.free(unload_models=True, free_memory=False)
    deeper = seen("second", picture(0x0A0B0C))
    deeper["layer"]["inputs"]["layers"] = "-2"
    comfy.run(deeper)
    assert comfy.loaded_models() == ["LanguageModel"]
    comfy.free()
    assert torch.equal(states_of(comfy.run(seen("first", picture(0x0A0B0C)))), states_of(first))


def test_the_weights_stand_beside_a_samplers(comfy):
    comfy.free()
    comfy.run(sampled(seen("beside", picture(0x0D0E0F)), "layer"))
    assert WEIGHTS | {"Lumina2"} <= set(comfy.loaded_models())


def test_freeing_leaves_nothing_of_ours(comfy):
    comfy.run(sampled(blended("freed", pictures=(picture(0x1A1B1C),)), "blend"))
    assert min(comfy.live(*OURS).values()) >= 1
    comfy.free()
    # Without a run of the garbage collector: nothing of ours refers to itself.
    alive = comfy.live(*OURS, "Tokens", "ModelPatcher")
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
        assert classic.live("VLM", "HuggingFaceBackbone") == {"VLM": 1, "HuggingFaceBackbone": 1}


# --- VLM From CLIP: the CLIP's weights, moved as ComfyUI moves them -------------------------------

NATIVE = ("VLM", "NativeBackbone", "HiddenStates", "Prefix")


def test_a_clips_weights_go_when_asked_and_come_back(comfy):
    comfy.free()
    first = comfy.run(from_clip("krea2", "first", picture(0x4A4B4C)))
    assert comfy.loaded_models() == ["Krea2TEModel_"]
    comfy.free(unload_models=True, free_memory=False)
    assert comfy.loaded_models() == []
    again = from_clip("krea2", "first", picture(0x4A4B4C), max_pixels=2048 * 1024)
    second = comfy.run(again)  # another key in ComfyUI's cache, the same pixels
    assert {"clip", "vlm"} <= second.cached and "encode" in second.executed
    assert comfy.loaded_models() == ["Krea2TEModel_"]
    difference = (states_of(second) - states_of(first)).abs().max()
    assert difference <= 1e-4 * states_of(first).abs().max()


def test_freeing_leaves_nothing_of_ours_on_a_clip(comfy):
    comfy.run(sampled(from_clip("krea2", "freed", picture(0x5A5B5C), target="z-image"), "layer"))
    assert min(comfy.live(*NATIVE).values()) >= 1
    comfy.free()
    # Llama2_ is the language model inside the CLIP.
    alive = comfy.live(*NATIVE, "Tokens", "ModelPatcher", "Llama2_")
    assert {name: n for name, n in alive.items() if n} == {}


# On the CPU, where these tests run, ComfyUI takes neither --lowvram nor --gpu-only beside --cpu.
@pytest.mark.parametrize(
    "flag", ["--disable-smart-memory", "--disable-dynamic-vram", "--force-fp16"]
)
def test_other_ways_to_move_models(start_comfy, flag):
    host = start_comfy(flag, fresh=True)
    try:
        for prompt in (
            sampled(seen("moved", picture(0x6A6B6C)), "layer"),
            sampled(from_clip("krea2", "moved", picture(0x6A6B6C), target="z-image"), "layer"),
        ):
            result = host.run(prompt)
            assert result.images("save")[0].startswith(b"\x89PNG")
            assert torch.isfinite(states_of(result)).all()
        host.free()
        assert host.loaded_models() == []
    finally:
        host.stop()
