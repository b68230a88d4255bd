"""The block "Krea 2 Picture Prompt": added in the page in place of the nodes that it holds."""

import io

import numpy as np
import pytest
from comfy_find import REPO
from PIL import Image
from workflow_tools import BARE, WORKFLOWS, example_picture, make_small, read

NAME = "Krea 2 Picture Prompt"
INPUTS = ["clip", "picture", "prompt", "max_pixels"]
INNER = ["VLMCFromCLIP", "VLMCEncode", "VLMCHiddenLayerSelect"]
WORKFLOW = WORKFLOWS / "krea2-picture-prompt.json"

pytestmark = pytest.mark.timeout(1800)  # a busy machine needs minutes for a picture


@pytest.fixture
def page(comfy, checkout, open_page):
    """The page with the workflow that does the same."""
    example_picture(comfy, checkout, 128)
    opened = open_page(comfy, settings=BARE)
    opened.load(read(WORKFLOW))
    make_small(opened)
    return opened


def pixels(result):
    (png,) = result.images()
    return np.asarray(Image.open(io.BytesIO(png)))


def test_inputs_and_nodes():
    (inner,) = read(REPO / "subgraphs" / f"{NAME}.json")["definitions"]["subgraphs"]
    assert [entry["name"] for entry in inner["inputs"]] == INPUTS
    assert [entry["type"] for entry in inner["outputs"]] == ["CONDITIONING"]
    assert [node["type"] for node in inner["nodes"]] == INNER
    there = {node["type"]: node for node in read(WORKFLOW)["nodes"]}
    for node in inner["nodes"]:
        assert node["widgets_values"] == there[node["type"]]["widgets_values"]


def test_the_block_gives_the_workflows_picture(page):
    wanted = pixels(page.queue())
    page.evaluate("() => { app.canvas.ds.offset[1] -= 3000; app.canvas.setDirty(true, true) }")
    page.page.wait_for_timeout(300)
    page.add_from_search(NAME)
    assert page.missing_types() == []
    inputs, widgets = page.evaluate(
        """([name, inner]) => {
            const one = type => app.rootGraph.nodes.find(node => node.type === type)
            const block = app.rootGraph.nodes.find(node => node.title === name)
            window.block = block
            const known = [
                block.inputs.map(input => input.name),
                Object.fromEntries(block.widgets.map(widget => [widget.name, widget.value])),
            ]
            const words = one('PrimitiveStringMultiline').widgets[0].value
            for (const type of [...inner, 'PrimitiveStringMultiline'])
                app.rootGraph.remove(one(type))
            one('CLIPLoader').connect(0, block, 'clip')
            one('LoadImage').connect(0, block, 'picture')
            block.connect(0, one('VLMCCheckTarget'), 'conditioning')
            block.connect(0, one('ConditioningZeroOut'), 'conditioning')
            block.widgets.find(widget => widget.name === 'prompt').value = words
            return known
        }""",
        [NAME, INNER],
    )
    assert inputs == INPUTS
    assert widgets == {"prompt": "", "max_pixels": 0}
    assert np.array_equal(pixels(page.queue()), wanted)
    page.evaluate("() => { block.widgets.find(w => w.name === 'max_pixels').value = 64 * 64 }")
    result = page.queue()
    said = "\n".join(result.text(node) for node in result.outputs)
    assert "(4 image" in said and "fits Krea 2" in said
    assert not np.array_equal(pixels(result), wanted)
    assert page.errors() == []
