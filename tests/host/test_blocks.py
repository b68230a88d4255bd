"""The blocks in `subgraphs/`: each in the page, its widgets changed, beside the nodes it is of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations

import pytest
import torch
from block_graphs import BLOCKS, MOST, PICTURE
from browser import ComfyPage
from comfy_find import REPO
from comfy_host import PACK_FOLDER
from graphs import Prompt
from griddot_page import EMPTY
from pack_graphs import dump
from PIL import Image, ImageDraw
from workflow_tools import BARE, read

import tools.blocks
from vlm.targets import TARGETS

WRITE = "python -m tools.blocks writes the blocks with Image Prompt."
FILES = {path.stem: path for path in (REPO / "subgraphs").glob("*.json")}

pytestmark = [
    pytest.mark.usefixtures("qwen3vl", "flux_connectors"),
    pytest.mark.timeout(900),  # a busy machine needs minutes to start a server
]

# The page has opened a block's file, so that the block stands in its graph; around it comes what
# feeds it. For each trial its values and wires are set, and the page says what it would queue.
QUEUED = """async ([sources, trials, most]) => {
    const block = app.rootGraph.nodes.find(node => node.isSubgraphNode())
    const inputs = block.inputs.filter(input => !input.widget).map(input => input.name)
    const widgets = block.widgets.map(widget => [widget.name, widget.value])
    // As who opens the block may set it: else some targets enlarge a picture to a megapixel.
    for (const node of block.subgraph.nodes.filter(node => node.type === 'VLMCPicture'))
        node.widgets.find(widget => widget.name === 'max_pixels').value = most
    const made = {block}
    const add = type => {
        const node = LiteGraph.createNode(type)
        app.rootGraph.add(node)
        return node
    }
    const fill = (node, widgets, wires) => {
        for (const [name, value] of Object.entries(widgets))
            node.widgets.find(widget => widget.name === name).value = value
        for (const [name, [from, output]] of Object.entries(wires))
            if (!made[from].connect(output, node, name))
                throw new Error(`${node.title} does not take ${from} as ${name}`)
    }
    for (const [name, type, widgets, wires] of sources) {
        made[name] = add(type)
        fill(made[name], widgets, wires)
    }
    made.dump = add('TestTensorDump')
    fill(made.dump, {}, {conditioning: ['block', 0]})
    const queued = []
    for (const [widgets, wires] of trials) {
        fill(block, widgets, wires)
        queued.push((await app.graphToPrompt()).output)
    }
    const ids = Object.entries(made).map(([name, node]) => [name, String(node.id)])
    return {inputs, widgets, queued, ids: Object.fromEntries(ids)}
}"""


# A block that stands in the page, and what is around it.
SAMPLED = """([around, wires]) => {
    const made = {block: app.rootGraph.nodes.find(node => node.isSubgraphNode())}
    for (const [name, type, widgets] of around) {
        made[name] = LiteGraph.createNode(type)
        app.rootGraph.add(made[name])
        for (const [widget, value] of Object.entries(widgets))
            made[name].widgets.find(each => each.name === widget).value = value
    }
    const all = [...around.map(([name, , , wires]) => [name, wires]), ['block', wires]]
    for (const [name, wires] of all)
        for (const [input, [from, output]] of Object.entries(wires))
            made[from].connect(output, made[name], input)
}"""
SAMPLER = [
    ["model", "TestTinyZImage", {"width": 64}, {}],
    ["vae", "VAELoader", {"vae_name": "ae.safetensors"}, {}],
    ["latent", "EmptySD3LatentImage", {"width": 64, "height": 64}, {}],
    ["negative", "ConditioningZeroOut", {}, {"conditioning": ["block", 0]}],
    [
        "sampler",
        "KSampler",
        {"seed": 7, "steps": 2, "cfg": 1},
        {
            "model": ["model", 0],
            "positive": ["block", 0],
            "negative": ["negative", 0],
            "latent_image": ["latent", 0],
        },
    ],
    ["decode", "VAEDecode", {}, {"samples": ["sampler", 0], "vae": ["vae", 0]}],
    ["save", "SaveImage", {}, {"images": ["decode", 0]}],
]


@pytest.fixture(scope="module")
def page(browser, comfy) -> Iterator[ComfyPage]:
    """One page for all blocks, and a picture of which the mask editor marked a part."""
    shown = Image.new("RGB", (96, 64), "#557733")
    ImageDraw.Draw(shown).ellipse((20, 8, 60, 56), fill="#dd8833")
    alpha = Image.new("L", shown.size, 255)
    ImageDraw.Draw(alpha).rectangle((16, 0, 79, 63), fill=0)
    shown.putalpha(alpha)
    shown.save(comfy.base / "input" / PICTURE)
    opened = ComfyPage(browser, comfy, settings=BARE)
    yield opened
    opened.close()


def renamed(prompt: Prompt, names: dict[str, str]) -> Prompt:
    """An API prompt in which nodes have other ids, also where links name them."""
    return {
        names.get(key, key): one
        | {
            "inputs": {
                at: [names.get(value[0], value[0]), value[1]] if isinstance(value, list) else value
                for at, value in one["inputs"].items()
            }
        }
        for key, one in prompt.items()
    }


def assert_same(ours, theirs) -> None:
    """Whether two CONDITIONINGs are equal bit for bit, options included."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.tensor, other.tensor)
        assert one.options == other.options
        assert one.tensor.std() > 0.001


def differ(ours, theirs) -> bool:
    """Whether two CONDITIONINGs have other tensors or options."""
    if len(ours) != len(theirs):
        return True
    pairs = list(zip(ours, theirs, strict=True))
    return any(not torch.equal(a.tensor, b.tensor) or a.options != b.options for a, b in pairs)


def test_image_prompts_are_as_their_script_writes_them():
    for title in tools.blocks.BLOCKS:
        assert read(FILES[f"{title} Image Prompt"]) == tools.blocks.build(title), WRITE
    served = {row.target for row in tools.blocks.BLOCKS.values()}
    assert served == {row.name for row in TARGETS.values() if row.layers and row.width}


def test_published_as_blueprints(comfy):
    found = {
        entry["name"]: json.loads(comfy.get(f"/global_subgraphs/{key}")["data"])
        for key, entry in comfy.get("/global_subgraphs").items()
        if entry["info"].get("node_pack") == f"custom_nodes.{PACK_FOLDER}"
    }
    assert found == {name: read(path) for name, path in FILES.items()}
    assert set(found) == set(BLOCKS)


def test_a_block_added_from_the_search_makes_a_picture(page):
    page.messages.clear()
    page.load(EMPTY)
    name = "Z-Image Picture Style"
    page.add_from_search(name)
    (found,) = page.evaluate("() => app.rootGraph.nodes.map(n => [n.title, n.isSubgraphNode()])")
    assert found == [name, True]
    page.evaluate(SAMPLED, [[*BLOCKS[name].sources, *SAMPLER], BLOCKS[name].wires])
    assert page.missing_types() == []
    pictures = []
    for alpha in (0, 0.3):
        page.evaluate(
            """alpha => {
                const block = app.rootGraph.nodes.find(node => node.isSubgraphNode())
                const values = {prompt: 'a red house', alpha}
                for (const widget of block.widgets)
                    widget.value = values[widget.name] ?? widget.value
            }""",
            alpha,
        )
        pictures += page.queue().images()
    assert len(set(pictures)) == 2 and pictures[0].startswith(b"\x89PNG")
    assert page.errors() == []


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_gives_what_its_nodes_give(name, comfy, page):
    block = BLOCKS[name]
    kind, *settings = comfy.object_info("TestTinyClip")["input"]["required"]["target"]
    there = settings[0]["options"] if settings else kind
    for _, source, widgets, _ in block.sources:
        if source == "TestTinyClip" and widgets["target"] not in there:
            pytest.skip(f"this ComfyUI has no text encoder of {widgets['target']}")
    page.messages.clear()
    page.load(FILES[name])
    trials = [[trial.widgets, block.wires | trial.wires] for trial in block.trials.values()]
    seen = page.evaluate(QUEUED, [block.sources, trials, MOST])
    ids = seen["ids"]
    assert page.missing_types() == []
    assert seen["inputs"] == block.inputs
    assert seen["widgets"] == [list(each) for each in block.shows.items()]

    together: Prompt = {}
    for (each, trial), queued in zip(block.trials.items(), seen["queued"], strict=True):
        inside = [key for key in queued if key.startswith(f"{ids['block']}:")]
        assert sorted(queued[key]["class_type"] for key in inside) == block.inner
        together |= renamed(queued, {key: f"{each} {key}" for key in [*inside, ids["dump"]]})
        nodes = trial.oracle | {"dump": dump("out")}
        together |= renamed(nodes, ids | {key: f"{each} wanted {key}" for key in nodes})
    result = comfy.run(together)
    given = {each: result.dump(f"{each} {ids['dump']}") for each in block.trials}
    for each, ours in given.items():
        assert_same(ours, result.dump(f"{each} wanted dump"))
    for one, other in combinations(given.values(), 2):
        assert differ(one, other)
    assert page.errors() == []
