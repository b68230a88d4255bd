"""How a graph lies in the page: what covers what, what sticks out, which words are hard to read."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from browser import ComfyPage

TITLE = 30  # units of a node's title bar
LEAST_CONTRAST = 4.5  # of WCAG 2, for text of ordinary size
VUE = "async on => { await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on) }"
PALETTE = "async name => { await app.extensionManager.setting.set('Comfy.ColorPalette', name) }"
# Title, left, top, width and height of each node with its title bar, in the graph's units.
BOXES = """vue => app.rootGraph.nodes.map(node => {
    if (!vue) {
        const bar = LiteGraph.NODE_TITLE_HEIGHT
        return [node.title, node.pos[0], node.pos[1] - bar, node.size[0], node.size[1] + bar]
    }
    const element = document.querySelector(`[data-node-id="${node.id}"]`)
    const {left, top, width, height} = element.getBoundingClientRect()
    const {scale, offset} = app.canvas.ds, page = app.canvas.canvas.getBoundingClientRect()
    const x = (left - page.left) / scale - offset[0], y = (top - page.top) / scale - offset[1]
    return [node.title, x, y, width / scale, height / scale]
})"""
GROUPS = "() => app.rootGraph.groups.map(group => [group.title, ...group.pos, ...group.size])"
# The least contrast of words, by tag, over what lies behind them.
NOTE, HELP = ".comfy-markdown-content *", ".node-help-content *"
CONTRASTS = """selector => {
    const channels = color => {
        const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number)
        const unit = color.startsWith('color(') ? 255 : 1
        return [r * unit, g * unit, b * unit, a]
    }
    const over = ([r, g, b, a], under) =>
        [r, g, b].map((one, i) => one * a + under[i] * (1 - a)).concat(1)
    const light = ([r, g, b]) => {
        const linear = [r, g, b].map(one => one / 255).map(
            one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }
    const behind = element => {
        const layers = []
        for (let at = element; at; at = at.parentElement) {
            layers.push(channels(getComputedStyle(at).backgroundColor))
            if (layers.at(-1)[3] >= 1) break
        }
        return layers.reverse().reduce((under, layer) => over(layer, under), [0, 0, 0, 1])
    }
    const least = {}
    for (const element of document.querySelectorAll(selector)) {
        const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
        if (!own) continue
        const under = behind(element)
        const both = [light(over(channels(getComputedStyle(element).color), under)), light(under)]
        const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05)
        least[element.tagName] = Math.min(least[element.tagName] ?? 99, contrast)
    }
    return least
}"""


def is_sampler(node: dict[str, Any]) -> bool:
    """Whether a node of a workflow shows what is being sampled."""
    return node["type"].startswith(("KSampler", "SamplerCustom")) and "Select" not in node["type"]


def assert_apart(
    nodes: list[dict[str, Any]], sample: set[str], line: int = 50, preview: int = 0
) -> None:
    """No node covers another, as a workflow has them.

    Args:
        sample: types of the blocks that sample.
        line, preview: units that a node of ours, and one that samples, grows by in a run.
    """
    boxes = []
    for node in nodes:
        (x, y), (width, height) = node["pos"], node["size"]
        samples = is_sampler(node) or node["type"] in sample
        grown = height + line * node["type"].startswith("VLMC") + preview * samples
        boxes.append((node.get("title", node["type"]), x, y, width, grown))
    for i, (one, x, y, width, height) in enumerate(boxes):
        for other, left, top, wide, high in boxes[i + 1 :]:
            apart = x + width <= left or left + wide <= x
            apart |= y + height <= top - TITLE or top + high <= y - TITLE
            assert apart, f"{one} and {other} overlap"


def show(page: ComfyPage, vue: bool, palette: str = "dark") -> None:
    """Has the page draw with a renderer and a palette."""
    page.evaluate(VUE, vue)
    page.evaluate(PALETTE, palette)
    page.page.wait_for_timeout(700)


def overlaps(page: ComfyPage, vue: bool) -> list[str]:
    """Nodes that cover one another as the page draws them now, each pair a line."""
    found = []
    for one, other in combinations(page.evaluate(BOXES, vue), 2):
        (name, x, y, width, height), (beside, left, top, wide, high) = one, other
        across = min(x + width, left + wide) - max(x, left)
        down = min(y + height, top + high) - max(y, top)
        if across > 0 and down > 0:
            found.append(f"{name} and {beside}: {across:.0f} x {down:.0f}")
    return found


def outside(page: ComfyPage, vue: bool) -> list[str]:
    """Nodes that stick out below the group that they begin in, as the page draws them now."""
    groups = page.evaluate(GROUPS)
    found = []
    for name, x, y, width, height in page.evaluate(BOXES, vue):
        for title, left, top, wide, high in groups:
            begins = left <= x + width / 2 < left + wide and top <= y < top + high
            over = y + height - top - high
            if begins and over > 0:
                found.append(f"{name} sticks {over:.0f} out of {title}")
    return found


def hard_to_read(page: ComfyPage, where: str = NOTE) -> dict[str, float]:
    """Tags of the note, in the Vue renderer, or of HELP whose words have too little contrast.

    Raises:
        LookupError: there is no note, so nothing was measured.
    """
    found = page.evaluate(CONTRASTS, where)
    if not found:
        raise LookupError(f"the page draws no {where}")
    return {tag: contrast for tag, contrast in found.items() if contrast < LEAST_CONTRAST}


def faults(page: ComfyPage) -> list[str]:
    """What is wrong with the graph as either renderer draws it now; after a run with its lines."""
    found = overlaps(page, vue=False) + outside(page, vue=False)
    show(page, vue=True)
    try:
        drawn = overlaps(page, vue=True) + outside(page, vue=True)
        found += [f"Nodes 2.0: {each}" for each in drawn]
        hard = hard_to_read(page)
        found += [f"{tag} of the note has a contrast of {hard[tag]:.2f}" for tag in hard]
    finally:
        show(page, vue=False)
    return found
