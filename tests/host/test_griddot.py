"""GridDot Mask in a real ComfyUI: before a gate and after it, with masks, and what it refuses."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from graphs import node
from pack_graphs import conditioning, dump, picture, seen
from PIL import Image
from refusals import change, failed, refused

from vlm.tokens.griddot import radial_mask
from vlm.tokens.shape_text import parse_dots, write_dots
from vlm.tokens.shapes import Box, Dot, Stroke
from vlm.tokens.token_weights import resample_mask

MAP = "vlm_tokens"
DOTS = [Dot(0.3, 0.6, 0.4), Dot(0.8, 0.2, 0.5, -0.5)]
SIZE = {"width": 96, "height": 64}


def masked(before: bool, text: str = "a dotted house", dots=DOTS, **inputs) -> dict:
    """`seen` with GridDot Mask before the gate or after it; `mask` saves what it used."""
    prompt = seen(text, picture(**SIZE))
    text = dots if isinstance(dots, str) else write_dots(dots)
    source = "encode" if before else "layer"
    prompt["grid"] = node("VLMCGridDotMask", tokens=[source, 0], dots=text, **inputs)
    if before:
        prompt = change(prompt, "layer", hidden_states=["grid", 0])
    else:
        prompt["dump"] = dump("grid")
    prompt["as_image"] = node("MaskToImage", mask=["grid", 1])
    prompt["mask"] = node("SaveImage", images=["as_image", 0], filename_prefix="griddot")
    return prompt


def saved_mask(result) -> torch.Tensor:
    (png,) = result.images("mask")
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(png)))[..., 0] / 255.0)


def grid_of(entry) -> tuple[int, int, torch.Tensor]:
    """Rows, columns and indices of the picture's tokens in a dumped entry."""
    (grid,) = entry.options[MAP]["grids"]
    at = [i for i, role in enumerate(entry.options[MAP]["role"]) if role == "image"]
    return grid["rows"], grid["cols"], torch.tensor(at)


@pytest.mark.parametrize("before", [True, False], ids=["before the gate", "after the gate"])
def test_the_pictures_tokens_are_weighed(comfy, before):
    (plain,) = comfy.run(seen("a dotted house", picture(**SIZE))).dump("dump")
    result = comfy.run(masked(before))
    (entry,) = result.dump("dump")
    rows, cols, at = grid_of(plain)
    weights = radial_mask(rows, cols, DOTS)
    expected = plain.tensor.clone()
    expected[:, at] *= weights.reshape(-1, 1)
    assert torch.equal(entry.tensor, expected)
    assert entry.options[MAP] == plain.options[MAP]
    assert (saved_mask(result) - weights).abs().max() <= 1 / 255
    mean = f"{weights.mean().item():.2g}"
    line = result.text("grid")
    assert line.startswith(f"image 0, {rows} x {cols} tokens, 2 dots, weights 0 to ")
    assert line.endswith(f"mean {mean}")


def test_no_dots_change_nothing(comfy):
    (plain,) = comfy.run(seen("a dotted house", picture(**SIZE))).dump("dump")
    for before in (True, False):
        result = comfy.run(masked(before, dots=""))
        assert torch.equal(result.dump("dump")[0].tensor, plain.tensor)
        assert (saved_mask(result) == 1).all()


def test_combine_and_floor(comfy):
    three = [Dot(0.2, 0.5, 0.6, 0.5), Dot(0.5, 0.5, 0.8, 0.7), Dot(0.9, 0.5, 0.5)]
    for combine in ("max", "sum", "screen"):
        mask = saved_mask(comfy.run(masked(True, dots=three, combine=combine, floor=0.25)))
        expected = radial_mask(*mask.shape, three, combine, 0.25)
        assert (mask - expected).abs().max() <= 1 / 255


def test_boxes_and_strokes(comfy):
    drawn = [Dot(0.3, 0.6, 0.4), Box(0.5, 0, 1, 0.45, 0.75), Stroke([[0, 1], [1, 1]], 0.3, -1)]
    result = comfy.run(masked(False, dots=drawn, floor=0.1))
    mask = saved_mask(result)
    assert (mask - radial_mask(*mask.shape, drawn, floor=0.1)).abs().max() <= 1 / 255
    assert "1 dot, 1 box, 1 stroke, weights" in result.text("grid")


def test_a_wired_mask_multiplies_the_dots(comfy):
    prompt = masked(True, mask=["half", 0])
    prompt |= {
        "left": node("SolidMask", value=1.0, width=30, height=40),
        "black": node("SolidMask", value=0.25, width=60, height=40),
        "half": node("MaskComposite", destination=["black", 0], source=["left", 0], x=0, y=0,
                     operation="add"),
    }  # fmt: skip
    drawn = torch.full((40, 60), 0.25)
    drawn[:, :30] = 1
    result = comfy.run(prompt)
    mask = saved_mask(result)
    expected = radial_mask(*mask.shape, DOTS, mask=resample_mask(drawn, *mask.shape))
    assert (mask - expected).abs().max() <= 1 / 255
    assert "2 dots and a mask" in result.text("grid")
    alone = change(prompt, "grid", dots="")
    mask = saved_mask(comfy.run(alone))
    assert (mask - resample_mask(drawn, *mask.shape)).abs().max() <= 1 / 255


def test_the_mask_is_as_large_as_a_wired_picture(comfy):
    prompt = masked(True, image=["picture0", 0])
    small = saved_mask(comfy.run(masked(True)))
    large = saved_mask(comfy.run(prompt))
    assert large.shape == (64, 96)
    rows, cols = small.shape
    for row in range(rows):
        for col in range(cols):
            y, x = int((row + 0.5) * 64 / rows), int((col + 0.5) * 96 / cols)
            assert large[y, x] == small[row, col]


def test_the_second_picture(comfy):
    prompt = seen("two pictures", picture(0x990000, **SIZE), picture(0x000099, 64, 128))
    (plain,) = comfy.run(prompt).dump("dump")
    prompt["grid"] = node(
        "VLMCGridDotMask", tokens=["layer", 0], dots=write_dots(DOTS), image_number=1
    )
    (entry,) = comfy.run(prompt | {"dump": dump("grid")}).dump("dump")
    columns = zip(plain.options[MAP]["role"], plain.options[MAP]["image"], strict=True)
    second = torch.tensor([pair == ("image", 1) for pair in columns])
    grid = plain.options[MAP]["grids"][1]
    weights = radial_mask(grid["rows"], grid["cols"], DOTS).reshape(-1, 1)
    assert torch.equal(entry.tensor[:, ~second], plain.tensor[:, ~second])
    assert torch.equal(entry.tensor[:, second], plain.tensor[:, second] * weights)


def test_every_frame_of_a_video(comfy):
    prompt = seen("a video", None, video=["frames", 0])
    prompt |= {"frames": picture(batch=4, **SIZE), "dump": dump("grid")}
    prompt["grid"] = node("VLMCGridDotMask", tokens=["layer", 0], dots=write_dots(DOTS))
    plain = comfy.run(prompt | {"dump": dump("layer")}).dump("dump")[0]
    weighed = comfy.run(prompt).dump("dump")[0]
    (grid,) = plain.options[MAP]["grids"]
    assert grid["frames"] == 2
    _, _, at = grid_of(plain)
    weights = radial_mask(grid["rows"], grid["cols"], DOTS).reshape(-1, 1).repeat(2, 1)
    assert torch.equal(weighed.tensor[:, at], plain.tensor[:, at] * weights)


def test_several_entries(comfy):
    prompt = masked(False)
    prompt["early"] = node("ConditioningSetTimestepRange", conditioning=["layer", 0], start=0.0,
                           end=0.5)  # fmt: skip
    prompt["late"] = node("ConditioningSetTimestepRange", conditioning=["layer", 0], start=0.5,
                          end=1.0)  # fmt: skip
    prompt["both"] = node("ConditioningCombine", conditioning_1=["early", 0],
                          conditioning_2=["late", 0])  # fmt: skip
    result = comfy.run(change(prompt, "grid", tokens=["both", 0]))
    one, two = result.dump("dump")
    (single,) = comfy.run(masked(False)).dump("dump")
    assert torch.equal(one.tensor, single.tensor) and torch.equal(two.tensor, single.tensor)
    assert (one.options["end_percent"], two.options["start_percent"]) == (0.5, 0.5)
    assert result.text("grid").endswith(", 2 entries")


def test_dots_may_come_over_a_wire(comfy):
    """Over the API, or promoted to a subgraph's own input and wired there."""
    typed, wired = masked(False), masked(False)
    wired["text"] = node("PrimitiveString", value=typed["grid"]["inputs"]["dots"])
    (expected,) = comfy.run(typed).dump("dump")
    (found,) = comfy.run(change(wired, "grid", dots=["text", 0])).dump("dump")
    assert torch.equal(found.tensor, expected.tensor)
    wired["text"] = node("PrimitiveString", value='{"dots": [')
    broken = failed(comfy, change(wired, "grid", dots=["text", 0]), "grid")
    assert "`dots` cannot be read as JSON" in broken


# --- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dots", "message"),
    [
        ('{"dots": [', "`dots` cannot be read as JSON"),
        ('{"dots": 3}', "is JSON, but no list of dots"),
        ('[{"x": 1.5, "y": 0, "radius": 1}]', "x 1.5, y 0, outside the picture"),
        ('{"version": 2, "boxes": [{"x0": 1, "y0": 0, "x1": 0, "y1": 1}]}', "has no inside"),
        ('{"version": 2, "strokes": [{"points": [], "radius": 1}]}', "at least one [x, y]"),
        ('[{"x": NaN, "y": 0, "radius": 1}]', "dot's x is a number, this is nan"),
        (json.dumps([{"x": 0, "y": 0, "radius": 1}] * 10_000), "10000 dots are more than"),
    ],
)
def test_bad_dots_are_refused_when_queued(comfy, dots, message):
    prompt = masked(True, dots=dots)
    (detail,) = refused(comfy, prompt).details("grid")
    assert message in detail


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"dots": write_dots([Dot(0.53, 0.53, 0.01)])}, "radius, 0.01, reaches 0.07 tokens"),
        ({"image_number": 3}, "Image 3 has no tokens here: there are images 0 (counted from 0)"),
        ({"mask": ["batch", 0]}, "batch of 3, image 0 has 1 frame(s)"),
        ({"mask": ["black", 0], "dots": ""}, "The MASK is black"),
    ],
)
def test_what_does_not_fit_stops_at_the_node(comfy, inputs, message):
    prompt = masked(True) | {
        "black": node("SolidMask", value=0.0, width=8, height=8),
        "white": picture(0xFFFFFF, 8, 8, batch=3),
        "batch": node("ImageToMask", image=["white", 0], channel="red"),
    }
    assert message in failed(comfy, change(prompt, "grid", **inputs), "grid")


def test_without_a_picture_or_a_map(comfy):
    prompt = seen("no picture", None)
    prompt["grid"] = node("VLMCGridDotMask", tokens=["layer", 0], dots=write_dots(DOTS))
    prompt["dump"] = dump("grid")
    assert "found no image tokens" in failed(comfy, prompt, "grid")
    prompt |= {"words": conditioning()}
    assert "carries no token map" in failed(
        comfy, change(prompt, "grid", tokens=["words", 0]), "grid"
    )


def test_the_panel_learns_the_grid(comfy):
    prompt = masked(True, mask=["white", 0], image=["picture0", 0])
    prompt["white"] = node("SolidMask", value=0.5, width=8, height=8)
    (told,) = comfy.run(prompt).outputs["grid"]["griddot"]
    assert (told["image"], told["frames"], told["rows"], told["cols"]) == (0, 1, 7, 10)
    assert told["mask"] == [0.5] * 70
    assert Image.open(io.BytesIO(comfy.view(told["picture"]))).size == (96, 64)
    assert parse_dots(prompt["grid"]["inputs"]["dots"]) == DOTS
