"""Lays shipped workflows out again, for nodes that have grown since: inputs were added to them.

    python tests/host/lay_out_again.py workflows/*.json

A node gets the height that either of the page's renderers needs, what is below it moves down, and
its group grows; all else stays where it is. COMFYUI_FRONTEND=newest measures with the newest
frontend.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from browser import ComfyPage, chromium
from comfy_find import HOW_TO, REPO, find_comfyui
from comfy_host import PACK_FOLDER, ComfyHost, pack_source
from installs import chosen_frontend
from layouts import BOXES, TITLE, show
from workflow_tools import BARE, example_picture, read
from write_workflow import FOOT, GROUP_GAP, NODE_GAP, grows


def heights(page: ComfyPage, file: Path) -> dict[int, float]:
    """Of each node, without its title bar: what the renderer that draws it higher needs."""
    found: dict[int, float] = {}
    for vue in (False, True):
        show(page, vue)
        page.load(file)
        page.page.wait_for_timeout(1500)  # for pictures, which make Load Image higher
        ids = page.evaluate("() => app.rootGraph.nodes.map(node => Number(node.id))")
        for number, (*_, height) in zip(ids, page.evaluate(BOXES, vue), strict=True):
            found[number] = max(found.get(number, 0), height - TITLE)
    return found


def lay_out(workflow: dict[str, Any], drawn: dict[int, float]) -> None:
    """Moves down what something above it needs the room of; nothing else."""
    columns: dict[float, list] = {}
    for group in sorted(workflow["groups"], key=lambda each: each["bounding"][1]):
        columns.setdefault(group["bounding"][0], []).append(group)
    # Before anything moves: who is in which group.
    inside = {id(group): nodes_of(group, workflow["nodes"]) for group in workflow["groups"]}
    for column in columns.values():
        free = -1e9  # where the next group may begin
        for group in column:
            left, top, width, height = group["bounding"]
            shift = max(0, free - top)
            bottom = top + height + shift
            below = -1e9  # where the next node may begin
            for node in inside[id(group)]:
                (x, y), (wide, high) = node["pos"], node["size"]
                high = max(round(drawn[node["id"]]), high)
                node["pos"], node["size"] = [x, max(y + shift, below)], [wide, high]
                end = node["pos"][1] + high + grows(node["type"], wide, high)
                below, bottom = end + NODE_GAP, max(bottom, end + FOOT)
            group["bounding"] = [left, top + shift, width, bottom - top - shift]
            free = bottom + GROUP_GAP


def nodes_of(group: dict[str, Any], nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nodes that begin in a group, from above."""
    left, top, width, height = group["bounding"]
    found = [
        n for n in nodes if left <= n["pos"][0] < left + width and top <= n["pos"][1] < top + height
    ]
    return sorted(found, key=lambda node: node["pos"][1])


def main(files: list[str]) -> None:
    """Starts ComfyUI and its page, and writes the files."""
    sys.path.insert(0, str(REPO))
    checkout = find_comfyui()
    if checkout is None:
        sys.exit(HOW_TO)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as base, chromium() as browser:
        packs = {PACK_FOLDER: pack_source()}
        host = ComfyHost(checkout, Path(base), packs=packs, frontend=chosen_frontend())
        try:
            page = ComfyPage(browser, host.start(), settings=BARE)
            example_picture(host, checkout, 768)
            for file in map(Path, files):
                workflow = read(file)
                lay_out(workflow, heights(page, file))
                text = json.dumps(workflow, indent=2, ensure_ascii=False)
                file.write_text(text + "\n", encoding="utf-8")
        finally:
            host.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
