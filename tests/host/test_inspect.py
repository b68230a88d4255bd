"""VLM Inspect Tokens in a real ComfyUI: picture and text of every kind of tokens, and errors."""

from __future__ import annotations

import io

import numpy as np
from graphs import node
from pack_graphs import conditioning, loader, picture, seen
from PIL import Image
from refusals import failed, refused
from tiny_connectors import ALIGNNET

PICTURES = (picture(0x994422, 128, 96), picture(0x226644, 64, 64))


def inspected(prompt: dict, tokens: list, **inputs) -> dict:
    """A prompt with Inspect on an output, its picture saved and its text shown."""
    prompt = {key: one for key, one in prompt.items() if key != "dump"}
    return prompt | {
        "inspect": node("VLMCInspect", tokens=tokens, **inputs),
        "save": node("SaveImage", images=["inspect", 0], filename_prefix="inspect"),
        "words": node("PreviewAny", source=["inspect", 1]),
    }


def measured(source: str) -> dict:
    """VLM Reference Statistics of a CONDITIONING."""
    wire = {"conditionings__conditioning0": [source, 0]}
    return node("VLMCReferenceStats", source="measure the inputs", **wire)


def text_of(result) -> str:
    (text,) = result.outputs["words"]["text"]
    return text


def picture_of(result) -> Image.Image:
    (png,) = result.images("save")
    shown = Image.open(io.BytesIO(png))
    assert shown.width == 1600 and shown.height > 600
    values = np.asarray(shown.convert("RGB"))
    assert (values == 255).mean() > 0.3 and values.std() > 20  # drawn on white
    return shown


def test_hidden_states_with_their_pictures_and_statistics(comfy):
    prompt = seen("an inspected house", *PICTURES)
    prompt |= {"own": conditioning(), "stats": measured("own")}
    pictures = {"images__image0": ["picture0", 0], "images__image1": ["picture1", 0]}
    prompt = inspected(prompt, ["encode", 0], stats=["stats", 0], **pictures)
    result = comfy.run(prompt)
    picture_of(result)
    text = text_of(result)
    assert text.startswith("layer 29 of 36  ·  ")  # -8, which Z-Image reads with a picture
    assert "30 of 37 layers are held" in text
    assert "image 1: the picture and its tokens" in text and "What each picture adds" in text
    assert "std off by ×" in text and "only 12 tokens were measured" in text
    assert result.text("inspect") == text.splitlines()[0]
    comfy.reset_module_calls()
    prompt["inspect"]["inputs"]["layer"] = "2"
    assert text_of(comfy.run(prompt)).startswith("layer 2 of 36")
    assert comfy.module_calls("DecoderLayer") == 0


def test_conditioning_of_any_kind(comfy):
    prompt = inspected(seen("an inspected house", *PICTURES), ["layer", 0])
    text = text_of(comfy.run(prompt))
    assert "image 0: how large each token is" in text and "Norms by layer" not in text
    prompt = inspected({"own": conditioning()}, ["own", 0])
    text = text_of(comfy.run(prompt))
    assert text.startswith("12 tokens, 64 wide") and "No token map came with them" in text


def test_every_entry_has_a_picture(comfy):
    prompt = {
        "own": conditioning(),
        "long": conditioning("long", tokens=40),
        "early": node("ConditioningSetTimestepRange", conditioning=["long", 0], start=0.0, end=0.5),
        "both": node("ConditioningCombine", conditioning_1=["early", 0], conditioning_2=["own", 0]),
    }
    result = comfy.run(inspected(prompt, ["both", 0]))
    first, second = (Image.open(io.BytesIO(png)) for png in result.images("save"))
    assert first.size == second.size
    assert "entry 1 of 2 (0% to 50% of the steps)  ·  40 tokens" in text_of(result)
    assert "entry 2 of 2  ·  12 tokens" in text_of(result)


def test_a_connector(comfy, flux_connectors):
    prompt = {
        "vlm": loader("VLM/Qwen2.5-VL-7B-Instruct"),
        "picture0": picture(),
        "encode": node(
            "VLMCEncode", model=["vlm", 0], prompt="an inspected house", target="flux1",
            images__image0=["picture0", 0],
        ),
        "trained": node("VLMCConnectorLoader", connector=ALIGNNET),
    }  # fmt: skip
    result = comfy.run(inspected(prompt, ["encode", 0], connector=["trained", 0]))
    picture_of(result)
    assert "what it takes of each layer" in text_of(result)
    assert "Largest size of the kernel: layer" in text_of(result)


def test_what_is_refused(comfy):
    prompt = seen("an inspected house", *PICTURES)
    error = refused(comfy, inspected(prompt, ["encode", 0], layer="deep"))
    assert "write auto or a layer index" in " ".join(error.details("inspect"))
    text = failed(comfy, inspected(prompt, ["encode", 0], layer="35"), "inspect")
    assert "Layer 35 is not held" in text and "`depth` on VLM Encode to 35" in text
    narrow = {"own": conditioning(width=32)}
    narrow |= {"stats": measured("own")}
    text = failed(comfy, inspected(prompt | narrow, ["layer", 0], stats=["stats", 0]), "inspect")
    assert "The reference is 32 wide, these tokens are 64 wide" in text
