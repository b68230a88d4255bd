"""Image Influence in a graph: against VLM Encode and Hidden Layer Select, in time, bad input."""

from __future__ import annotations

import pytest
import torch
from comfy_result import PromptFailed
from graphs import node
from pack_graphs import dump, loader, picture, sampled, seen
from refusals import refused


def influence(strengths: str, *, images: int = 2, **more) -> dict:
    """Two pictures into Image Influence, its conditioning written to a file."""
    links = {f"images__image{i}": [f"picture{i}", 0] for i in range(images)}
    return {
        "vlm": loader(),
        "picture0": picture(0x3366AA),
        "picture1": picture(0xCC2211),
        "influence": node(
            "VLMCImageInfluence", model=["vlm", 0], prompt="a red house", target="z-image",
            strengths=strengths, **links, **more,
        ),
        "dump": dump("influence"),
    }  # fmt: skip


def usual() -> dict:
    """The same pictures and words through VLM Encode and Hidden Layer Select."""
    return seen("a red house", picture(0x3366AA), picture(0xCC2211))


def test_one_is_what_encode_and_select_give(comfy):
    """Bit for bit where both run everything from the start."""
    comfy.free()  # and with the model what it remembers of a prefix
    ours = comfy.run(influence("1")).dump("dump")[0]
    comfy.free()
    theirs = comfy.run(usual()).dump("dump")[0]
    assert torch.equal(ours.tensor, theirs.tensor)
    assert ours.options["vlm_tokens"] == theirs.options["vlm_tokens"]


def test_one_is_the_same_after_a_remembered_prefix(comfy):
    """Fewer tokens in a pass may take other kernels: each layer adds its own rounding."""
    comfy.free()
    ours = comfy.run(influence("1")).dump("dump")[0]
    comfy.reset_module_calls()
    theirs = comfy.run(usual()).dump("dump")[0]
    depth = comfy.module_calls("DecoderLayer")
    assert 0 < depth <= 36 and comfy.module_calls("VisionModel") == 0, "nothing was remembered"
    largest = theirs.tensor.abs().max()
    allowed = 4 * depth * torch.finfo(torch.float32).eps * largest
    assert (ours.tensor - theirs.tensor).abs().max() <= allowed
    assert ours.options["vlm_tokens"] == theirs.options["vlm_tokens"]


def test_strengths_change_the_picture(comfy):
    images = [
        comfy.run(sampled(influence(strengths), "influence")).images("save")[0]
        for strengths in ("1", "1, 0", "0, 1")
    ]
    assert len(set(images)) == 3


def test_a_range_of_the_schedule(comfy):
    entries = comfy.run(influence("2", start_percent=0.25, end_percent=0.5)).dump("dump")
    spans = [(e.options.get("start_percent"), e.options.get("end_percent")) for e in entries]
    assert spans == [(0.0, 0.25), (0.25, 0.5), (0.5, 1.0)]
    assert torch.equal(entries[0].tensor, entries[2].tensor)
    assert not torch.equal(entries[0].tensor, entries[1].tensor)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strengths": "much"}, "expected numbers between commas"),
        ({"start_percent": 0.8, "end_percent": 0.2}, "expected a start_percent below end_percent"),
    ],
)
def test_bad_widgets_are_refused_when_queued(comfy, change, words):
    error = refused(comfy, influence(**({"strengths": "1"} | change)))
    assert any(words in text for text in error.details("influence"))


def test_another_number_of_strengths_than_images(comfy):
    with pytest.raises(PromptFailed) as caught:
        comfy.run(influence("1, 0.5, 0.2"))
    assert caught.value.node == "influence"
    assert "2 images and 3 strengths" in caught.value.text
