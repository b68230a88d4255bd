"""What the GridDot panel shows: the picture, the weights as they run, the help page's pictures."""

from __future__ import annotations

import io
import itertools
import json
import random

import numpy as np
import pytest
import torch
from comfy_find import REPO
from comfy_host import PACK_FOLDER
from griddot_page import NODE, WIDE
from PIL import Image
from snapshot import updating
from workflow_tools import example_picture

from vlm.tokens.griddot import radial_mask
from vlm.tokens.shape_text import parse_dots, write_dots
from vlm.tokens.shapes import Dot

pytest_plugins = ["griddot_fixtures"]
ONE = '{"version":1,"dots":[{"x":0.4,"y":0.5,"radius":0.25,"strength":1}]}'
COLOURS = itertools.count(1)
TWO = ONE[:-2] + ',{"x":0.8,"y":0.2,"radius":0.5,"strength":-0.5}]}'


# --- the picture ---------------------------------------------------------------------------------

ADDRESS = "(found, name) => found.pictureOf(made[name], 'image', app.rootGraph, {apiURL: x => x})"


def test_the_picture_is_found_through_reroutes(panel):
    panel.build(
        {"load": ["LoadImage", 0, 0], "one": ["Reroute", 300, 0], "two": ["Reroute", 350, 0],
         "dot": [NODE, 480, 20]},
        {"load": {"image": "example.png"}},
        [["load", 0, "one", 0], ["one", 0, "two", 0], ["two", 0, "dot", "image"]],
    )  # fmt: skip
    assert "example.png" in panel.module(ADDRESS, "dot")


def test_the_picture_is_found_through_subgraphs(panel):
    panel.alone()
    for name in ("load", "dot"):  # each into a block of its own
        panel.page.evaluate(
            """name => { made[name + 'Block'] = app.graph.convertToSubgraph(
                new Set([app.graph.getNodeById(made[name].id)])).node }""",
            name,
        )
    panel.page.evaluate(
        "type => { made.inner = made.dotBlock.subgraph.nodes.find(n => n.type === type) }", NODE
    )
    assert "example.png" in panel.module(ADDRESS, "inner")


BY_TOKENS = """(found, [name, number]) => found.pictureOfTokens(
    made[name], number, app.rootGraph, {apiURL: x => x})"""


def test_the_picture_is_found_through_the_tokens(panel):
    """By its number, through the nodes between; what a batch may hold is not guessed."""
    types = {
        "first": ["LoadImage", 0, 0], "second": ["LoadImage", 0, 400],
        "encode": ["VLMCEncode", 300, 0], "layer": ["VLMCHiddenLayerSelect", 640, 0],
        "filter": ["VLMCTokenFilter", 640, 300], "dot": [NODE, 1000, 20],
    }  # fmt: skip
    links = [
        ["first", 0, "encode", "images.image0"], ["second", 0, "encode", "images.image1"],
        ["encode", 0, "layer", "hidden_states"], ["layer", 0, "filter", "tokens"],
        ["filter", 0, "dot", "tokens"],
    ]  # fmt: skip
    values = {"first": {"image": "example.png"}, "second": {"image": WIDE}}
    panel.build(types, values | {"dot": {"image_number": 1}}, links)
    assert "example.png" in panel.module(BY_TOKENS, ["dot", 0])
    assert "wide.png" in panel.module(BY_TOKENS, ["dot", 1])
    assert panel.module(BY_TOKENS, ["dot", 2]) is None
    panel.until(lambda: "2 × 6 tokens" in panel.status())  # the panel shows the wide one
    tabs = panel.page.page.locator(".griddot [aria-label=Pictures] button")
    assert [tab.get_attribute("aria-pressed") for tab in tabs.all()] == ["false", "true"]
    tabs.first.click()
    panel.until(lambda: "2 × 6 tokens" not in panel.status())
    assert (
        panel.page.evaluate(
            "() => made.dot.widgets.find(each => each.name === 'image_number').value"
        )
        == 0
    )
    panel.build(types | {"first": ["EmptyImage", 0, 0]}, {"second": {"image": WIDE}}, links)
    assert panel.module(BY_TOKENS, ["dot", 1]) is None


def test_no_picture_where_nothing_is_wired(panel):
    panel.alone(picture=None)
    assert panel.module(ADDRESS, "dot") is None
    assert "32 × 32 tokens (estimate" in panel.status()


# --- what runs -----------------------------------------------------------------------------------


MEAN_COLOUR = """() => {
    const canvas = document.querySelector('.griddot-stage canvas')
    const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    const mean = from => data.reduce((sum, x, at) => sum + (at % 4 === from ? x : 0), 0)
    return [0, 2].map(from => mean(from) * 4 / data.length)
}"""


def executed_mask(result):
    """The mask that the node used, from its PNG."""
    (png,) = result.images()
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(png)))[..., 0] / 255.0)


def drawn_weights(panel, rows, cols):
    """The weights that the panel shows, from the brightness of its grey picture."""
    script = """([rows, cols]) => {
        const canvas = document.querySelector('.griddot-stage canvas')
        const pen = canvas.getContext('2d')
        const scale = Math.min(canvas.width / cols, canvas.height / rows)
        const left = (canvas.width - cols * scale) / 2, top = (canvas.height - rows * scale) / 2
        const red = (x, y) => pen.getImageData(left + x * scale, top + y * scale, 1, 1).data[0]
        return Array.from({length: rows * cols}, (_, at) => {
            const row = Math.floor(at / cols), col = at % cols
            const seen = [0.2, 0.5, 0.8].flatMap(
                down => [0.2, 0.5, 0.8].map(right => red(col + right, row + down)))
            return seen.sort((a, b) => a - b)[4]
        })
    }"""
    red = torch.tensor(panel.page.evaluate(script, [rows, cols]), dtype=torch.float64)
    weights = 1 - (1 - (red - 8) / (0x6B - 8)) / 0.82
    return weights.reshape(rows, cols)


def test_text_drawing_and_executed_mask_agree(panel):
    # The page does not know this picture: it is drawn grey. Nor does the server's cache.
    plain = {"width": 128, "height": 128, "color": next(COLOURS)}
    panel.running(TWO, ["EmptyImage", 0, 400], plain, wire_image=False)
    panel.drag((0.4, 0.5), (0.3, 0.6))
    mask = executed_mask(panel.page.queue())
    panel.settle()
    rows, cols = mask.shape
    assert (rows, cols) == (8, 8)
    assert "8 × 8 tokens" in panel.status() and "estimate" not in panel.status()
    expected = radial_mask(rows, cols, parse_dots(panel.queued()))
    assert (mask - expected).abs().max() <= 1 / 255
    off = (drawn_weights(panel, rows, cols) - mask).abs() > 0.04
    assert off.sum() <= 2, "more tokens differ than the two that the dots cover"


def test_the_drawing_follows_the_other_widgets(panel):
    panel.alone(ONE, picture=None)
    dark = drawn_weights(panel, 32, 32)
    assert abs(dark[0, 0]) <= 0.01 and dark[16, 13] >= 0.9
    panel.page.evaluate("() => { made.dot.widgets.find(w => w.name === 'floor').value = 0.5 }")
    panel.settle()
    light = drawn_weights(panel, 32, 32)
    assert abs(light[0, 0] - 0.5) <= 0.01
    panel.page.evaluate("() => { made.dot.widgets.find(w => w.name === 'floor').value = 1 }")
    panel.settle()
    assert (drawn_weights(panel, 32, 32) >= 0.99).float().mean() > 0.97


def test_the_grid_is_known_inside_a_subgraph(panel):
    panel.running(ONE, ["EmptyImage", 0, 400], {"width": 96, "height": 64}, wire_image=False)
    panel.page.evaluate(
        """() => { made.block = app.graph.convertToSubgraph(
            new Set([app.graph.getNodeById(made.dot.id)])).node }"""
    )
    mask = executed_mask(panel.page.queue())
    assert (mask - radial_mask(7, 10, parse_dots(ONE))).abs().max() <= 1 / 255
    panel.page.evaluate("() => { app.canvas.openSubgraph(made.block.subgraph, made.block) }")
    panel.settle()
    panel.page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [-500, 140] }")
    panel.settle()
    assert panel.status() == "Dot 1 of 1 · 7 × 10 tokens"
    panel.page.evaluate("() => { app.canvas.setGraph(app.rootGraph) }")


def test_a_picture_that_only_a_run_can_make(panel, request):
    source = ["EmptyImage", 0, 400]
    # One that no other run made: what is cached is told before the page knows that it runs.
    values = {"width": 96, "height": 64, "color": 0x336699 + ("vue" in request.node.name)}
    panel.running(ONE, source, values, wire_image=True)
    assert panel.module(ADDRESS, "dot") is None
    mask = executed_mask(panel.page.queue())
    assert mask.shape == (64, 96)  # as large as the picture
    # The page hears of it after the server is done.
    panel.until(lambda: panel.page.evaluate("() => !!app.nodeOutputs[made.dot.id]?.griddot"))
    panel.settle()
    output = panel.page.evaluate("() => app.nodeOutputs[made.dot.id].griddot[0]")
    rows, cols = output["rows"], output["cols"]
    assert (rows, cols) == (7, 10) and output["picture"]["type"] == "temp"
    assert f"{rows} × {cols} tokens" in panel.status() and "estimate" not in panel.status()
    red, blue = panel.page.evaluate(MEAN_COLOUR)
    assert blue > red + 10, "the picture of the run is not shown"
    expected = radial_mask(rows, cols, parse_dots(ONE))
    row, col = torch.arange(64) * rows // 64, torch.arange(96) * cols // 96
    assert (mask - expected[row[:, None], col]).abs().max() <= 1 / 255


@pytest.mark.parametrize("combine", ["max", "sum", "screen"])
def test_the_formula_in_the_page_is_the_librarys(panel, combine):
    rng = random.Random(combine)
    for _ in range(20):
        rows, cols = rng.randint(1, 12), rng.randint(1, 12)
        text = json.dumps([
            {"x": rng.random(), "y": rng.random(), "radius": rng.uniform(0.1, 1.5),
             "strength": rng.uniform(-1, 1)}
            for _ in range(rng.randint(1, 5))
        ])  # fmt: skip
        floor = rng.uniform(0.1, 0.9)
        mask = [rng.random() for _ in range(rows * cols)] if rng.random() < 0.5 else None
        here = panel.module(
            "(m, [rows, cols, text, combine, floor, mask]) =>"
            " [...m.radialMask(rows, cols, m.parseDots(text).dots, combine, floor, mask)]",
            [rows, cols, text, combine, floor, mask],
        )
        grid = None if mask is None else torch.tensor(mask).reshape(rows, cols)
        there = radial_mask(rows, cols, parse_dots(text), combine, floor, grid)
        assert (torch.tensor(here).reshape(rows, cols) - there).abs().max() <= 1e-5


def test_the_text_of_the_page_is_read_by_the_library(panel):
    panel.alone()
    panel.click(0.2, 0.3)
    panel.click(0.7, 0.9)
    dots = parse_dots(panel.queued())
    assert parse_dots(write_dots(dots)) == dots
    assert len(dots) == 2


# --- pictures of the help page -------------------------------------------------------------------

PICTURES = {"classic": "griddot-panel.jpg", "vue": "griddot-panel-vue.jpg"}
THREE = write_dots([Dot(0.5, 0.27, 0.35), Dot(0.42, 0.62, 0.25, 0.7), Dot(0.75, 0.45, 0.3, -0.8)])


@pytest.fixture
def renderer(request):
    return request.node.callspec.params["opened"]


def test_picture_of_the_panel(panel, renderer, comfy, checkout):
    file = REPO / "web" / "docs" / PICTURES[renderer]
    if updating():
        example_picture(comfy, checkout, 768)
        panel.alone(THREE)
        panel.page.evaluate(
            """() => {
                made.dot.setSize([440, 690])
                app.canvas.deselectAll()
                app.canvas.setDirty(true, true)
            }"""
        )
        panel.settle()
        panel.node_picture().save(file, quality=85, optimize=True)
        example_picture(comfy, checkout, 128)
    assert comfy.request(f"/extensions/{PACK_FOLDER}/docs/{file.name}") == file.read_bytes()
    with Image.open(file) as found:
        assert found.format == "JPEG" and found.width >= 400
    assert file.stat().st_size <= 80_000
