"""Conditioning Sweep and Contact Sheet in a real ComfyUI: a list through native nodes to a page."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from graphs import Prompt, node
from pack_graphs import conditioning, dump, loader, picture, sampled, seen, through_filter
from PIL import Image
from refusals import change, failed, refused

PICTURE = picture(0x994422, 128, 96)
TWO = {"axis_1": "alpha", "values_1": "0, 0.3, 0.6", "axis_2": "layer", "values_2": "-2, -8"}
FIXED = {"keep": "all", "method": "interpolate"}


def swept(text: str = "a swept house", source: str = "encode", **inputs) -> Prompt:
    """VLM Encode → Conditioning Sweep → dump; the text side is `words`."""
    made = seen(text, PICTURE)
    made = {key: one for key, one in made.items() if key != "layer"}
    made["words"] = conditioning()
    made["sweep"] = node("VLMCSweep", source=[source, 0], text=["words", 0], **inputs)
    return made | {"dump": dump("sweep")}


def separate(name: str, **settings) -> Prompt:
    """The same by the nodes one after another, with `encode` and `words` of `swept`."""
    s = {"layer": "auto", "pool": 0, "keep": "text", "normalisation": "auto", "strength": 1.0,
         "outliers": "off", "method": "auto", "alpha": 0.3} | settings  # fmt: skip
    return {
        f"{name}1": node("VLMCHiddenLayerSelect", hidden_states=["encode", 0], layers=s["layer"],
                         combine="auto"),
        f"{name}2": node("VLMCTokenPool", tokens=[f"{name}1", 0], size=s["pool"] or 16384),
        f"{name}3": node("VLMCTokenFilter", tokens=[f"{name}2", 0], keep=s["keep"]),
        f"{name}4": node(
            "VLMCPerDimNormalize", conditioning=[f"{name}3", 0], mode=s["normalisation"],
            strength=s["strength"], reference=["words", 0], outliers=s["outliers"],
        ),
        f"{name}5": node("VLMCAlphaBlend", text=["words", 0], picture=[f"{name}4", 0],
                         alpha=s["alpha"], method=s["method"]),
        name: dump(f"{name}5"),
    }  # fmt: skip


COMBINED = [
    {"layer": ["-2", "-2:0.5, -8:0.5"], "keep": ["all", "text"]},
    {"alpha": [0.0, 0.4], "method": ["concat", "truncate"]},
    {"normalisation": ["global", "per_dim", "robust"], "strength": [0.0, 0.5]},
    {"pool": [6, 1], "outliers": ["off", "zero"]},
]


@pytest.mark.parametrize("axes", COMBINED, ids=lambda axes: " and ".join(axes))
def test_each_combination_equals_the_separate_nodes(comfy, axes):
    (first, columns), (second, rows) = axes.items()
    written = {
        "axis_1": first, "values_1": "; ".join(map(str, columns)) + ";",
        "axis_2": second, "values_2": "; ".join(map(str, rows)) + ";",
    }  # fmt: skip
    prompt = swept(**written, keep="all")
    names = []
    for row in rows:
        for column in columns:
            names.append(f"by{len(names)}")
            prompt |= separate(names[-1], **{"keep": "all", first: column, second: row})
    result = comfy.run(prompt)
    made = result.dumps("dump")
    assert len(made) == len(names)
    for (got,), name in zip(made, names, strict=True):
        (want,) = result.dump(name)
        assert torch.equal(got.tensor, want.tensor), name
        assert got.options == want.options


def test_twelve_values_take_one_run(comfy):
    prompt = swept("a house swept twelve times", **TWO | {"values_1": "0, 0.1, 0.2, 0.3, 0.4, 0.5"})
    comfy.reset_module_calls()
    result = comfy.run(prompt)
    assert len(result.dumps("dump")) == 12
    assert comfy.module_calls("DecoderLayer") == 35  # -2 of 37: what enters the last of 36
    assert result.text("sweep").startswith("12 conditionings (6 of alpha x 2 of layer)")


def sheet(prompt: Prompt, **inputs) -> Prompt:
    """A sweep sampled by native nodes onto a sheet."""
    prompt = sampled({key: one for key, one in prompt.items() if key != "dump"}, "sweep")
    prompt["negative"] = node("ConditioningZeroOut", conditioning=["words", 0])
    del prompt["save"]
    labels = {"labels": ["sweep", 1]} | inputs
    return prompt | {"sheet": node("VLMCContactSheet", images=["decode", 0], **labels)}


def test_a_list_goes_through_the_sampler_to_one_sheet(comfy):
    prompt = sheet(swept("a house on a sheet", **TWO, **FIXED), title="a house of <b>bricks</b> 猫")
    result = comfy.wait(comfy.queue(prompt, {"extra_pnginfo": {"workflow": {"nodes": [7]}}}))
    (png,) = result.images("sheet")
    page = Image.open(io.BytesIO(png))
    assert result.text("sheet").startswith(f"6 pictures on {page.width} x {page.height} pixels")
    assert page.width > 3 * 64 and page.height > 2 * 64
    assert json.loads(page.info["workflow"]) == {"nodes": [7]}
    stored = json.loads(page.info["prompt"])
    assert stored["sweep"]["inputs"]["values_1"] == "0, 0.3, 0.6"
    # Alpha 0 is the text alone, whatever the layer; other cells differ.
    values = np.asarray(page.convert("RGB")).astype(int)
    single = comfy.run(sampled({"words": conditioning()}, "words"))
    (alone,) = single.images("save")
    want = np.asarray(Image.open(io.BytesIO(alone)).convert("RGB")).astype(int)
    found = [
        (y, x)
        for y in range(page.height - 63)
        for x in range(page.width - 63)
        if abs(values[y, x] - want[0, 0]).max() <= 1
        and abs(values[y : y + 64, x : x + 64] - want).max() <= 1
    ]
    assert len(found) == 2 and found[0][1] == found[1][1]


def test_a_model_reads_the_nodes_own_prompt(comfy):
    own = {"prompt": "a swept house", "target": "z-image", "images__image0": ["picture0", 0]}
    prompt = swept(**TWO, **FIXED)
    want = comfy.run(prompt).dumps("dump")
    direct = {key: one for key, one in swept(source="vlm", **TWO, **FIXED, **own).items()}
    del direct["encode"]
    got = comfy.run(direct).dumps("dump")
    assert len(got) == len(want) == 6
    for (one,), (other,) in zip(got, want, strict=True):
        assert torch.equal(one.tensor, other.tensor)
    empty = {key: one for key, one in swept(source="vlm", **TWO).items() if key != "encode"}
    assert "there is nothing for it to read" in failed(comfy, empty, "sweep")


@pytest.mark.parametrize(
    ("inputs", "part"),
    [
        ({"values_1": ""}, "The axis alpha of a sweep has no values"),
        ({"values_1": "0, lots"}, "'lots' is no value of the axis alpha"),
        ({"values_1": "<img src=x onerror=alert(1)>"}, "is no value of the axis alpha"),
        ({"axis_1": "speed"}, "'speed' is no axis of a sweep"),
        ({"axis_2": "alpha", "values_2": "1"}, "Both axes of the sweep are alpha"),
        ({"axis_2": "keep", "values_2": "  "}, "The axis keep of a sweep has no values"),
        ({"values_1": ",".join(str(at / 200) for at in range(101))}, "101 combinations"),
        ({"layer": "deep"}, "'deep' is no value of the axis layer"),
    ],
)
def test_values_are_refused_when_it_is_queued(comfy, inputs, part):
    one = {"axis_1": "alpha", "values_1": "0, 0.3", "axis_2": "none", "values_2": ""}
    error = refused(comfy, swept(**one | inputs))
    assert any(part in text for text in error.details("sweep"))


def test_what_comes_over_a_wire_is_refused_in_words(comfy):
    one = {"axis_1": "pool", "values_1": "4, 2", "axis_2": "none", "values_2": ""}
    text = failed(comfy, swept(**one), "sweep")
    assert "`keep` text leaves them all out. Set `keep` to all or image" in text
    wrong = swept(**one | {"axis_1": "alpha", "values_1": "0.1"})
    wrong = change(wrong, "sweep", text=["through", 0]) | {"through": through_filter("encode")}
    assert "this is hidden states" in failed(comfy, wrong, "sweep", "TypeError")
    other = swept(**one | {"axis_1": "layer", "values_1": "-2, 90"})
    assert "Layer 90 does not exist" in failed(comfy, other, "sweep")


def test_labels_of_another_sweep_are_refused(comfy):
    prompt = {
        "picture": PICTURE,
        "sheet": node("VLMCContactSheet", images=["picture", 0], labels=["many", 1]),
        "vlm": loader(),
        "words": conditioning(),
        "many": node(
            "VLMCSweep", source=["vlm", 0], text=["words", 0], prompt="a house", axis_1="alpha",
            values_1="0, 0.5", axis_2="none",
        ),
    }  # fmt: skip
    assert "1 pictures and 2 labels" in failed(comfy, prompt, "sheet")


def test_a_batch_stands_side_by_side_without_labels(comfy):
    prompt = {
        "picture": picture(0x994422, 64, 48, batch=3),
        "sheet": node("VLMCContactSheet", images=["picture", 0], title="three"),
    }
    result = comfy.run(prompt)
    (png,) = result.images("sheet")
    assert Image.open(io.BytesIO(png)).width > 3 * 64
    assert result.text("sheet").startswith("1 pictures on")


@pytest.mark.slow
def test_without_metadata_the_page_holds_no_settings(start_comfy):
    """`--disable-metadata` counts for the sheet as for Save Image."""
    host = start_comfy("--disable-metadata", fresh=True)
    try:
        prompt = {"picture": PICTURE, "sheet": node("VLMCContactSheet", images=["picture", 0])}
        (png,) = host.run(prompt).images("sheet")
    finally:
        host.stop()
    assert not {"prompt", "workflow"} & set(Image.open(io.BytesIO(png)).info)
