"""Writes a workflow for the template browser from a short description of it.

    python tests/host/write_workflow.py SPEC.json workflows/NAME.json

The page itself makes every node, so widgets stand in its order and have its defaults. SPEC:

    {"note": "# Title\\n\\n...", "columns": [[group, ...], ...],
     "nodes": {"key": {"class_type": ..., "title": ..., "inputs": {...}, "models": [...]}}}

A group is {"title", "color", "nodes": [keys]}; columns stand from left to right behind the note. An
input is a widget's value or a link ["key", output's number], a dotted one ("images.image0") too;
`models` is what ComfyUI's dialog for missing files reads. What belongs out of sight goes into a
subgraph, which then stands in the columns by its key, with the widgets that it shows:

    "subgraphs": {"key": {"title": ..., "nodes": [keys], "shows": [["key", "widget"], ...]}}

What the page's app mode shows of it, where it is to show anything:

    "app": {"inputs": [["key", "widget"], ...], "outputs": [keys]}

`test_workflows.py` then writes the API file (UPDATE_SNAPSHOTS=1), `tools/cards.py` the card.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from browser import ComfyPage, chromium
from comfy_find import HOW_TO, REPO, find_comfyui
from comfy_host import PACK_FOLDER, ComfyHost, pack_source
from layouts import is_sampler
from workflow_tools import BARE, name_pack, nodes_in

NOTE_WIDTH, COLUMN_GAP, GROUP_GAP, NODE_GAP = 390, 56, 34, 56
HEAD, SIDE, FOOT, LINE = 84, 16, 16, 50  # LINE: what a node of ours grows by when it has run
PREVIEW = 240  # what a node that samples grows by
# Nodes that show a result: how high they are then, in widths of theirs.
RESULTS = {"SaveImage": 0.9, "SaveVideo": 1.25, "LoadVideo": 1.25, "VLMCContactSheet": 1.6}
TITLE = 30
VIEW = {"scale": 0.5, "offset": [180, 400]}  # of what does not say its own in "view"
COLORS = {
    "input": "#4f8fc0", "text encoder": "#6f9f58", "vlm": "#a274c4", "mix": "#c08a55",
    "model": "#8a919c",
}  # fmt: skip

MAKE = """async ({nodes, note, subgraphs}) => {
    const made = {}
    const readme = LiteGraph.createNode('MarkdownNote')
    app.rootGraph.add(readme)
    readme.title = 'Read me'
    readme.widgets[0].value = note
    for (const [key, wanted] of nodes) {
        const node = LiteGraph.createNode(wanted.class_type)
        if (!node) throw new Error(`the page knows no ${wanted.class_type}`)
        app.rootGraph.add(node)
        made[key] = node
        if (wanted.title) node.title = wanted.title
        if (wanted.models) node.properties.models = wanted.models
        if (wanted.mode) node.mode = wanted.mode
        for (const [name, value] of Object.entries(wanted.inputs ?? {})) {
            if (Array.isArray(value)) continue
            const widget = node.widgets?.find(w => w.name === name)
            if (!widget) throw new Error(`${wanted.class_type} has no widget ${name}`)
            widget.value = value
            widget.callback?.(value)
        }
    }
    for (const [key, wanted] of nodes)
        for (const [name, value] of Object.entries(wanted.inputs ?? {})) {
            if (!Array.isArray(value)) continue
            const node = made[key], [from, output] = value
            const is = i => i.name === name || i.widget?.name === name
            const find = () => node.inputs.findIndex(is)
            // An input that grows is there a moment after the one before it was connected.
            for (let tries = 0; find() < 0 && tries < 100; tries++)
                await new Promise(done => setTimeout(done, 50))
            const slot = find()
            if (slot < 0) throw new Error(`${wanted.class_type} has no input ${name}`)
            if (!made[from].connect(output, node, slot))
                throw new Error(`${key}.${name} refuses the link`)
            await new Promise(done => setTimeout(done, 50))
        }
    for (const [key, wanted] of subgraphs) {
        wanted.nodes.forEach((inner, row) => { made[inner].pos = [0, 260 * row] })
        const inside = new Set(wanted.nodes.map(inner => made[inner]))
        const {node, subgraph} = app.rootGraph.convertToSubgraph(inside)
        node.title = subgraph.name = wanted.title
        for (const [inner, widget] of wanted.shows) {
            const shown = subgraph.nodes.find(n => n.id === made[inner].id)
            const input = shown.inputs.find(i => i.widget?.name === widget)
            subgraph.addInput(widget, String(input.type)).connect(input, shown)
        }
        let top = 0
        for (const each of subgraph.nodes) {
            each.pos = [0, top]
            top += Math.max(each.size[1], each.computeSize()[1]) + 140
        }
        subgraph.inputNode.pos = [-300, 0]
        subgraph.outputNode.pos = [500, 0]
        made[key] = node
    }
    return Object.fromEntries(Object.entries(made).map(
        ([key, node]) => [key, {id: node.id, height: node.computeSize()[1]}]))
}"""

PLACE = """({places, groups, note}) => {
    const graph = app.rootGraph
    const readme = graph.nodes.find(n => n.type === 'MarkdownNote')
    readme.pos = [0, 30]
    readme.size = note
    readme.color = readme.bgcolor = '#272206'  // links can be read on it in either theme
    for (const [id, x, y, width, height] of places) {
        const node = graph.getNodeById(id)
        node.pos = [x, y]
        node.size = [width, height]
    }
    for (const {title, color, bounding} of groups) {
        const group = new LiteGraph.LGraphGroup(title)
        group.color = color
        group.pos = bounding.slice(0, 2)
        group.size = bounding.slice(2)
        graph.add(group)
    }
    return graph.serialize()
}"""


def grows(kind: str, width: float, height: float) -> float:
    """What a node of a type and a size grows by in a run."""
    shown = max(0, round(RESULTS.get(kind, 0) * width) - height)
    line = LINE if kind.startswith("VLMC") else 0
    return shown + line + (PREVIEW if is_sampler({"type": kind}) else 0)


def layout(spec: dict[str, Any], made: dict[str, dict]) -> tuple[list, list]:
    """Places of the nodes (id, x, y, width, height), and the groups around them."""
    places, groups, left = [], [], NOTE_WIDTH + COLUMN_GAP
    for column in spec["columns"]:
        width = max(group.get("width", 340) for group in column)
        top = 0
        for group in column:
            y = top + HEAD
            for key in group["nodes"]:
                wanted = spec["nodes"].get(key, {})
                height = max(made[key]["height"], wanted.get("height", 0))
                places.append((made[key]["id"], left + SIDE, y, width, height))
                y += height + grows(wanted.get("class_type", ""), width, height) + NODE_GAP
            bottom = y - NODE_GAP + FOOT
            color = COLORS.get(group.get("color", "model"), group.get("color"))
            bounding = [left, top, width + 2 * SIDE, bottom - top]
            groups.append({"title": group["title"], "color": color, "bounding": bounding})
            top = bottom + GROUP_GAP
        left += width + 2 * SIDE + COLUMN_GAP
    return places, groups


def build(page: ComfyPage, spec: dict[str, Any], name: str) -> dict[str, Any]:
    """The workflow as the page saves it."""
    nodes = list(spec["nodes"].items())
    page.load({"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "version": 0.4})
    subgraphs = list(spec.get("subgraphs", {}).items())
    made = page.evaluate(MAKE, {"nodes": nodes, "note": spec["note"], "subgraphs": subgraphs})
    places, groups = layout(spec, made)
    lines = sum(1 + len(line) // 46 for line in spec["note"].splitlines())
    note = [NOTE_WIDTH, max(300, 60 + 16 * lines)]
    placed = page.evaluate(PLACE, {"places": places, "groups": groups, "note": note})
    workflow = {key: value for key, value in placed.items() if value is not None}
    for node in nodes_in(workflow):  # who opens it gets the picture that its note speaks of
        values = node.get("widgets_values") or []
        node["widgets_values"] = ["fixed" if value == "randomize" else value for value in values]
    inputs = {made[key]["id"]: wanted.get("inputs", {}) for key, wanted in nodes}
    for node in nodes_in(workflow):
        files = {model["name"] for model in node["properties"].get("models", ())}
        named = {k: v for k, v in inputs.get(node["id"], {}).items() if isinstance(v, str)}
        if files & set(named.values()):
            node["widgets_values_named"] = named
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    workflow["extra"] = {"ds": spec.get("view", VIEW)}
    if "app" in spec:
        shown = [[made[key]["id"], widget] for key, widget in spec["app"]["inputs"]]
        ends = [made[key]["id"] for key in spec["app"]["outputs"]]
        workflow["extra"]["linearData"] = {"inputs": shown, "outputs": ends}
    return workflow


def main(source: str, out: str) -> None:
    """Starts ComfyUI and its page, and writes the file."""
    sys.path.insert(0, str(REPO))
    spec = json.loads(Path(source).read_text(encoding="utf-8"))
    checkout = find_comfyui()
    if checkout is None:
        raise SystemExit(HOW_TO)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as base, chromium() as browser:
        host = ComfyHost(checkout, Path(base), packs={PACK_FOLDER: pack_source()})
        try:
            page = ComfyPage(browser, host.start(), settings=BARE)
            workflow = build(page, spec, Path(out).stem)
        finally:
            host.stop()
    name_pack(workflow)
    text = json.dumps(workflow, indent=2, ensure_ascii=False)
    Path(out).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
