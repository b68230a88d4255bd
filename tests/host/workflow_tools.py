"""The shipped workflows: where they are, how a test makes them small, pictures of their graphs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from browser import ComfyPage
from comfy_find import REPO, Checkout
from comfy_host import ComfyHost
from PIL import Image, ImageDraw

WORKFLOWS = REPO / "workflows"
API = WORKFLOWS / "api"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
# What a person opens first is named as a person would say it.
STARTS = [name for name in NAMES if name.endswith(")")]

# Where ComfyUI's bars do not reach, once the settings below took the floating ones away.
LEFT, TOP = 70, 170
BARE = {
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
    # Without a GPU the page's drawing would take the CPU away from the server.
    "LiteGraph.Canvas.MaximumFps": 5,
}
FEW_TOKENS = 12  # that a VLM writes in a test
FEW_FRAMES = 5  # the fewest that MiniMax H3 takes
FEW_MEGAPIXELS = 0.01  # of a picture that is scaled, the least that the node takes
Box = tuple[float, float, float, float]


def nodes_in(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """All nodes of a workflow or blueprint, those inside its subgraphs too."""
    inner = workflow.get("definitions", {}).get("subgraphs", [])
    return [node for graph in (workflow, *inner) for node in graph["nodes"]]


def name_pack(workflow: dict[str, Any]) -> None:
    """Says on each node of ours which pack it is of: a manager finds it where it is missing."""
    from vlm.version import NAME, find_version

    for node in nodes_in(workflow):
        if node["type"].startswith("VLMC"):
            node.setdefault("properties", {}).update(cnr_id=NAME, ver=find_version())


def read(path: Path) -> dict[str, Any]:
    """A JSON file of the repository."""
    return json.loads(path.read_text(encoding="utf-8"))


def example_picture(host: ComfyHost, checkout: Checkout, side: int = 768) -> str:
    """Puts the picture that the workflows load into input/, where a fresh ComfyUI has it.

    Args:
        side: its width and height in pixels; 768 is that of the bundled one.
    """
    target = host.base / "input" / "example.png"
    bundled = checkout.path / "input" / "example.png"
    if bundled.exists():
        shown = Image.open(bundled).convert("RGB")
    else:
        shown = Image.new("RGB", (768, 768), "#5e90ff")
        ImageDraw.Draw(shown).ellipse((200, 200, 560, 700), fill="#ffa3d6")
    shown.resize((side, side)).save(target)
    return target.name


def small(prompt: dict[str, Any], side: int = 64) -> dict[str, Any]:
    """An API prompt with small latents and pictures and short answers: seconds on a CPU."""
    prompt = json.loads(json.dumps(prompt))
    for node in prompt.values():
        sized = any(kind in node["class_type"] for kind in ("Latent", "Scheduler", "VLMCRewrite"))
        for name in ("width", "height") if sized else ():
            node["inputs"][name] = side
        few = (("max_tokens", FEW_TOKENS), ("megapixels", FEW_MEGAPIXELS), ("length", FEW_FRAMES))
        for name, value in few:
            if name in node["inputs"]:
                node["inputs"][name] = value
    return prompt


def make_small(page: ComfyPage, side: int = 64, seed: int = 7) -> None:
    """The same in the page that shows a workflow: sizes and seed as a person would type them."""
    page.evaluate(
        """([side, seed, tokens, megapixels, frames]) => {
            const all = graph => graph.nodes.flatMap(
                node => node.subgraph ? [node, ...all(node.subgraph)] : [node])
            for (const node of all(app.rootGraph))
                for (const widget of node.widgets ?? []) {
                    const sized = /Latent|Scheduler|PrimitiveInt|VLMCRewrite/.test(node.type)
                        || node.subgraph // whose widgets speak for those inside
                    if (sized && /^(width|height|value)$/.test(widget.name)) widget.value = side
                    const samples = !node.type.startsWith('VLMC')
                    if (samples && /^(noise_)?seed$/.test(widget.name)) widget.value = seed
                    if (widget.name === 'max_tokens') widget.value = tokens
                    if (widget.name === 'megapixels') widget.value = megapixels
                    if (widget.name === 'length') widget.value = frames
                }
        }""",
        [side, seed, FEW_TOKENS, FEW_MEGAPIXELS, FEW_FRAMES],
    )


# --- pictures of a graph --------------------------------------------------------------------------


def groups(workflow: dict[str, Any]) -> Box:
    """Bounds of all groups: the graph without its note."""
    return _bounds([group["bounding"] for group in workflow["groups"]], margin=24)


def _bounds(boxes: list[Box], margin: float) -> Box:
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = (max(box[i] + box[i + 2] for box in boxes) for i in (0, 1))
    return left - margin, top - margin, right - left + 2 * margin, bottom - top + 2 * margin


def picture(page: ComfyPage, box: Box, width: int) -> Image.Image:
    """A picture of a part of the graph, `width` pixels wide, without ComfyUI's bars.

    The page must have been opened with the settings BARE.
    """
    scale = width / box[2]
    height = round(box[3] * scale)
    page.page.set_viewport_size({"width": LEFT + width + 20, "height": TOP + height + 20})
    page.evaluate(
        """([left, top, scale, x, y]) => {
            const view = app.canvas.canvas.getBoundingClientRect()
            app.canvas.deselectAll()
            app.canvas.ds.scale = scale
            app.canvas.ds.offset = [(left - view.left) / scale - x, (top - view.top) / scale - y]
            app.canvas.setDirty(true, true)
        }""",
        [LEFT, TOP, scale, box[0], box[1]],
    )
    page.page.wait_for_timeout(1200)
    clip = {"x": LEFT, "y": TOP, "width": width, "height": height}
    return Image.open(io.BytesIO(page.page.screenshot(clip=clip))).convert("RGB")
