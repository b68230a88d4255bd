"""The block "FLUX Image Variation": added in the page, wired, queued."""

import pytest
from comfy_find import REPO
from workflow_tools import BARE, WORKFLOWS, example_picture, make_small, read

NAME = "FLUX Image Variation"
INPUTS = ["clip", "vlm", "picture", "connector", "guidance"]

pytestmark = pytest.mark.timeout(1800)  # a busy machine needs minutes for a picture


@pytest.fixture
def page(flux_connectors, comfy, checkout, open_page):
    """The page with the loaders and the sampler of the workflow, without what the block does."""
    example_picture(comfy, checkout, 128)
    opened = open_page(comfy, settings=BARE)
    opened.load(read(WORKFLOWS / "flux1-image-variation.json"))
    opened.evaluate(
        """() => {
            const inside = /VLMCEncode|VLMCConnector|CLIPTextEncode|FluxGuidance|VLMCCheckTarget/
            for (const node of [...app.rootGraph.nodes])
                if (inside.test(node.type)) app.rootGraph.remove(node)
        }"""
    )
    make_small(opened)
    return opened


def test_inputs_and_nodes():
    (inner,) = read(REPO / "subgraphs" / f"{NAME}.json")["definitions"]["subgraphs"]
    assert [entry["name"] for entry in inner["inputs"]] == INPUTS
    assert [entry["type"] for entry in inner["outputs"]] == ["CONDITIONING"]
    (encode,) = [node for node in inner["nodes"] if node["type"] == "VLMCEncode"]
    assert encode["widgets_values_named"]["target"] == "qwen2vl-flux"


def test_the_block_makes_a_picture(page):
    page.evaluate("() => { app.canvas.ds.offset[1] -= 3000; app.canvas.setDirty(true, true) }")
    page.page.wait_for_timeout(300)
    page.add_from_search(NAME)
    assert page.missing_types() == []
    inputs, widgets = page.evaluate(
        """name => {
            const one = type => app.rootGraph.nodes.find(node => node.type === type)
            const block = app.rootGraph.nodes.find(node => node.title === name)
            one('DualCLIPLoader').connect(0, block, 'clip')
            one('VLMCLoader').connect(0, block, 'vlm')
            one('LoadImage').connect(0, block, 'picture')
            block.connect(0, one('KSampler'), 'positive')
            block.connect(0, one('ConditioningZeroOut'), 'conditioning')
            return [
                block.inputs.map(input => input.name),
                Object.fromEntries(block.widgets.map(widget => [widget.name, widget.value])),
            ]
        }""",
        NAME,
    )
    assert inputs == INPUTS
    assert widgets == {"connector": "qwen2vl-flux/connector.pt", "guidance": 3.5}
    result = page.queue()
    said = "\n".join(result.text(node) for node in result.outputs)
    assert "Qwen2VL-Flux connector" in said and "pooled 768" in said
    (png,) = result.images()
    assert png.startswith(b"\x89PNG")
    assert page.errors() == []
