"""The blocks with Image Prompt: added in the page in place of the nodes that they hold."""

import io

import numpy as np
import pytest
from comfy_find import REPO
from PIL import Image
from workflow_tools import BARE, WORKFLOWS, example_picture, make_small, read

INNER = ["VLMCPicture", "VLMCImagePrompt"]
# Each block with its target, the workflow that does the same, and what it is wired from.
SOCKETS = {"clip": "CLIPLoader", "picture": "LoadImage"}
BLOCKS = {
    "Z-Image Image Prompt": ("z-image", "z-image-image-prompt", SOCKETS | {"vlm": "VLMCLoader"}),
    "Krea 2 Image Prompt": ("krea2", "krea2-image-prompt", SOCKETS),
    "Qwen-Image Image Prompt": (
        "qwen-image",
        "qwen-image-image-prompt",
        SOCKETS | {"picture": "ImageScaleToTotalPixels"},
    ),
}
each_block = pytest.mark.parametrize("name", BLOCKS)

pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow]  # a busy machine needs minutes


def pixels(result):
    (png,) = result.images()
    return np.asarray(Image.open(io.BytesIO(png)))


def said(result):
    return "\n".join(result.text(node) for node in result.outputs)


@each_block
def test_inputs_and_nodes(name):
    (inner,) = read(REPO / "subgraphs" / f"{name}.json")["definitions"]["subgraphs"]
    target, _, wired = BLOCKS[name]
    given = [entry["name"] for entry in inner["inputs"]]
    assert given[-4:] == ["mask", "prompt", "strength", "keep"] and set(given[:-4]) == set(wired)
    assert [entry["type"] for entry in inner["outputs"]] == ["CONDITIONING"]
    assert [node["type"] for node in inner["nodes"]] == INNER
    assert inner["nodes"][1]["widgets_values_named"]["target"] == target


@each_block
def test_the_block_gives_the_workflows_picture(name, public_vlm, comfy, checkout, open_page):
    example_picture(comfy, checkout, 128)
    target, workflow, wired = BLOCKS[name]
    page = open_page(comfy, settings=BARE)
    page.load(read(WORKFLOWS / f"{workflow}.json"))
    make_small(page)
    # At the picture's own size: the block does not say how many pixels are looked at.
    page.evaluate(
        """() => {
            for (const node of app.rootGraph.nodes.filter(n => n.type === 'VLMCPicture'))
                node.widgets.find(w => w.name === 'max_pixels').value = 0
        }"""
    )
    wanted = pixels(page.queue())
    page.evaluate("() => { app.canvas.ds.offset[1] -= 3000; app.canvas.setDirty(true, true) }")
    page.page.wait_for_timeout(300)
    page.add_from_search(name)
    assert page.missing_types() == []
    widgets = page.evaluate(
        """([name, wired]) => {
            const nodes = type => app.rootGraph.nodes.filter(node => node.type === type)
            const [block] = app.rootGraph.nodes.filter(node => node.title === name)
            window.block = block
            const known = Object.fromEntries(block.widgets.map(w => [w.name, w.value]))
            // Of two, the one with words.
            const old = nodes('VLMCImagePrompt').find(node => node.widgets[0].value)
            const words = old.widgets[0].value
            const readers = old.outputs[0].links.map(id => app.rootGraph.links.get(id))
                .map(link => [link.target_id, link.target_slot])
            for (const [input, type] of Object.entries(wired))
                nodes(type)[0].connect(0, block, input)
            for (const [id, slot] of readers)
                block.connect(0, app.rootGraph.getNodeById(id), slot)
            app.rootGraph.remove(old)
            block.widgets.find(widget => widget.name === 'prompt').value = words
            return known
        }""",
        [name, wired],
    )
    assert widgets == {"prompt": "", "strength": 1, "keep": "all"}
    result = page.queue()
    assert np.array_equal(pixels(result), wanted)
    assert "for " in said(result) and "picture 1" in said(result)
    page.evaluate("() => { block.widgets.find(w => w.name === 'strength').value = 0 }")
    alone = page.queue()
    assert not np.array_equal(pixels(alone), wanted)
    page.evaluate("() => { block.widgets.find(w => w.name === 'strength').value = 0.5 }")
    assert not np.array_equal(pixels(page.queue()), pixels(alone))
    assert page.errors() == []
