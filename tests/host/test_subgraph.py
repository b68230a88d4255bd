"""The block "Z-Image Picture Style": added in the page, wired, queued."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from comfy_host import PACK_FOLDER
from PIL import Image
from workflow_tools import BARE, BLUEPRINT, WORKFLOWS, example_picture, make_small, read

NAME = BLUEPRINT.stem
INPUTS = ["clip", "vlm", "picture", "prompt", "alpha", "layers", "keep"]
INNER = {
    "CLIPTextEncode",
    "VLMCEncode",
    "VLMCHiddenLayerSelect",
    "VLMCTokenFilter",
    "VLMCPerDimNormalize",
    "VLMCAlphaBlend",
}

pytestmark = pytest.mark.timeout(1800)  # a busy machine needs minutes for a picture


def definition(blueprint):
    (found,) = blueprint["definitions"]["subgraphs"]
    return found


def pixels(result):
    (png,) = result.images()
    return np.asarray(Image.open(io.BytesIO(png)))


def test_one_prompt_feeds_both_encoders():
    inner = definition(read(BLUEPRINT))
    assert [entry["name"] for entry in inner["inputs"]] == INPUTS
    assert [entry["type"] for entry in inner["outputs"]] == ["CONDITIONING"]
    kinds = {node["id"]: node["type"] for node in inner["nodes"]}
    prompt = INPUTS.index("prompt")
    fed = {
        kinds[link["target_id"]]
        for link in inner["links"]
        if link["origin_id"] == -10 and link["origin_slot"] == prompt
    }
    assert fed == {"CLIPTextEncode", "VLMCEncode"}
    assert set(kinds.values()) == INNER


def test_published_as_a_blueprint(comfy):
    found = {
        key: entry
        for key, entry in comfy.get("/global_subgraphs").items()
        if entry["info"].get("node_pack") == f"custom_nodes.{PACK_FOLDER}"
    }
    files = {path.stem: read(path) for path in BLUEPRINT.parent.glob("*.json")}
    assert {entry["name"] for entry in found.values()} == set(files)
    for key, entry in found.items():
        assert json.loads(comfy.get(f"/global_subgraphs/{key}")["data"]) == files[entry["name"]]


@pytest.fixture
def page(comfy, checkout, public_vlm, open_page):
    """The page with a plain Z-Image graph: words, model, sampler, decoder."""
    example_picture(comfy, checkout, 128)
    opened = open_page(comfy, settings=BARE)
    opened.load(WORKFLOWS / "z-image-picture-style.json")
    opened.evaluate(
        """() => {
            const plain = /^(UNET|CLIP|VAE)Loader|CLIPTextEncode|Sampl|ZeroOut|Latent|Decode|Save/
            for (const node of [...app.rootGraph.nodes])
                if (!plain.test(node.type)) app.rootGraph.remove(node)
            const one = type => app.rootGraph.nodes.find(node => node.type === type)
            const text = one('CLIPTextEncode')
            text.widgets[0].value = 'a red house'
            text.connect(0, one('KSampler'), 'positive')
        }"""
    )
    make_small(opened)
    return opened


def add(page, name):
    """Adds a node or block at a free place, as a person does."""
    page.evaluate("() => { app.canvas.ds.offset[1] -= 3000; app.canvas.setDirty(true, true) }")
    page.page.wait_for_timeout(300)
    page.add_from_search(name)


def test_three_added_nodes_make_the_first_picture(page):
    words_alone = pixels(page.queue())
    before = len(page.node_types())
    for name in (NAME, "VLM Loader", "Load Image"):
        add(page, name)
    assert len(page.node_types()) == before + 3
    assert page.missing_types() == []
    inputs, widgets = page.evaluate(
        """name => {
            const one = type => app.rootGraph.nodes.find(node => node.type === type)
            const block = app.rootGraph.nodes.find(node => node.title === name)
            one('CLIPLoader').connect(0, block, 'clip')
            one('VLMCLoader').widgets[0].value = 'VLM/Qwen3-VL-4B-Instruct'
            one('VLMCLoader').connect(0, block, 'vlm')
            one('LoadImage').connect(0, block, 'picture')
            block.connect(0, one('KSampler'), 'positive')
            block.widgets.find(widget => widget.name === 'prompt').value = 'a red house'
            window.block = block
            return [
                block.inputs.map(input => input.name),
                Object.fromEntries(block.widgets.map(widget => [widget.name, widget.value])),
            ]
        }""",
        NAME,
    )
    assert inputs == INPUTS
    assert widgets == {"prompt": "a red house", "alpha": 0.3, "layers": "auto", "keep": "text"}
    inner = {
        node["class_type"]: node["inputs"] for key, node in page.api_prompt().items() if ":" in key
    }
    assert set(inner) == INNER
    assert inner["CLIPTextEncode"]["text"] == inner["VLMCEncode"]["prompt"] == "a red house"

    styled = page.queue()
    assert any("alpha 0.3" in styled.text(node) for node in styled.outputs)
    assert not np.array_equal(pixels(styled), words_alone)
    page.evaluate("() => { block.widgets.find(w => w.name === 'alpha').value = 0 }")
    assert np.array_equal(pixels(page.queue()), words_alone)
    assert page.errors() == []
