"""Nodes in the page: colours of their sockets, and the sentence of an error where it happened."""

from __future__ import annotations

from uuid import uuid4

import pytest
from browser import ComfyPage
from comfy_host import PACK_FOLDER
from comfy_result import PromptFailed
from griddot_page import EMPTY, RENDERERS, settings

COLORS = {
    "VLMC_MODEL": "#b18cff",
    "VLMC_HIDDEN_STATES": "#2fc6b7",
    "VLMC_PICTURES": "#7fb4ff",
    "VLMC_CONNECTOR": "#e58fb1",
    "VLMC_STATS": "#b9c24a",
}
DRAWN = """types => types.map(type => [
    type,
    app.canvas.default_connection_color_byType[type],
    app.canvas.constructor.link_type_colors[type],
    getComputedStyle(document.documentElement).getPropertyValue(`--color-datatype-${type}`).trim(),
])"""
CHOOSE = "name => app.extensionManager.setting.set('Comfy.ColorPalette', name)"
# A node between a conditioning of text and a dump, with one widget set; its number. The name is new
# each time: of what ComfyUI has in its cache nothing is said.
BETWEEN = """([type, widget, value, name]) => {
    const make = (type, x) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, 0]
        app.graph.add(node)
        return node
    }
    const set = (node, name, value) => { node.widgets.find(w => w.name === name).value = value }
    const [text, node] = [make('TestTinyConditioning', 0), make(type, 300)]
    text.connect(0, node, 'tokens')
    node.connect(0, make('TestTensorDump', 800), 'conditioning')
    set(text, 'name', name)
    set(node, widget, value)
    return node.id
}"""
# Puts a node into a block; the block's number.
INTO_BLOCK = "id => app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)])).node.id"
OPEN_BLOCK = "id => app.canvas.setGraph(app.rootGraph.getNodeById(id).subgraph)"
CLOSE_BLOCK = "() => app.canvas.setGraph(app.rootGraph)"
INSIDE = "() => app.canvas.graph.nodes[0].id"
# How the elements that show a text break its lines.
BREAKS = """text => [...document.querySelectorAll('.dom-widget *, [data-node-id] *')]
    .filter(each => !each.children.length && each.textContent.trim() === text)
    .map(each => getComputedStyle(each).wordBreak)"""
ONE = '{"version":1,"dots":[{"x":0.4,"y":0.5,"radius":0.25,"strength":1}]}'


@pytest.fixture(scope="module", params=RENDERERS)
def page(request, browser, comfy):
    opened = ComfyPage(browser, comfy, settings=settings(request.param))
    yield opened
    opened.close()
    comfy.post("/api/settings", settings("classic"))


def between(page, *node):
    """Makes BETWEEN, of a type, a widget and its value."""
    return page.evaluate(BETWEEN, [*node, uuid4().hex])


def test_sockets_keep_their_colours_in_every_palette(page):
    for palette in ("dark", "light", "nord", "dark"):
        page.evaluate(CHOOSE, palette)
        page.page.wait_for_timeout(300)
        wanted = [[type, color, color, color] for type, color in COLORS.items()]
        assert page.evaluate(DRAWN, list(COLORS)) == wanted


def test_an_errors_sentence_stands_on_its_node(page):
    page.load(EMPTY)
    dot = between(page, "VLMCGridDotMask", "dots", ONE)  # no token of text is a picture's
    with pytest.raises(PromptFailed) as caught:
        page.queue()
    page.page.wait_for_timeout(500)
    assert page.shown_text(dot) == caught.value.text != ""
    breaks = page.evaluate(BREAKS, caught.value.text)
    assert breaks and "break-all" not in breaks


def test_a_line_stays_when_the_run_is_over(page):
    page.load(EMPTY)
    node = between(page, "VLMCTokenFilter", "keep", "all")
    for _ in range(2):  # then out of ComfyUI's cache
        page.queue()
        page.page.wait_for_timeout(700)
        assert page.shown_text(node) == "16 of 16 tokens kept"
    page.evaluate("id => app.graph.remove(app.graph.getNodeById(id))", node)
    page.page.wait_for_timeout(300)
    assert page.errors() == []


def test_a_block_that_is_opened_after_the_run_shows_lines(page):
    page.load(EMPTY)
    block = page.evaluate(INTO_BLOCK, between(page, "VLMCTokenFilter", "keep", "all"))
    page.queue()
    page.page.wait_for_timeout(700)
    assert page.shown_text(block) == ""
    for _ in range(2):
        page.evaluate(OPEN_BLOCK, block)
        page.page.wait_for_timeout(500)
        assert page.shown_text(page.evaluate(INSIDE)) == "16 of 16 tokens kept"
        page.evaluate(CLOSE_BLOCK)
        page.page.wait_for_timeout(300)
    assert page.errors() == []


def test_t5_bridge_chooses_no_file_by_itself(page):
    page.load(EMPTY)
    value = page.evaluate(
        """() => {
            const node = LiteGraph.createNode('VLMCT5Bridge')
            return node.widgets.find(widget => widget.name === 'embedder').value
        }"""
    )
    assert value == "choose t5_embedder.pt"


def test_a_new_rewrite_keeps_its_seed(page):
    """Queued again it writes the same; a workflow that says randomize goes on doing so."""
    control = """seed => {
        const node = LiteGraph.createNode('VLMCRewrite')
        if (seed) node.configure({...node.serialize(), widgets_values: seed})
        return node.widgets.find(widget => widget.name === 'control_after_generate').value
    }"""
    page.load(EMPTY)
    assert page.evaluate(control) == "fixed"
    old = ["a fox", "z-image", "dense description", 256, 0.7, 42, "randomize", 0.8, 20]
    assert page.evaluate(control, old) == "randomize"


@pytest.mark.parametrize("language, said", [("zh", "单击添加点"), ("ja", "クリックで点を追加")])
def test_the_panel_speaks_the_page_s_language(comfy, open_page, language, said):
    page = open_page(comfy, settings=settings("classic") | {"Comfy.Locale": language})
    try:
        page.load(EMPTY)
        page.evaluate("() => { app.graph.add(LiteGraph.createNode('VLMCGridDotMask')) }")
        status = page.page.locator(".griddot-status")
        status.wait_for()
        assert status.inner_text().startswith(f"{said} · ")
    finally:
        comfy.post("/api/settings", {"Comfy.Locale": "en"})
    # Where the page looks for help first; where there is none, it takes the English page.
    served = f"/extensions/{PACK_FOLDER}/docs/VLMCGridDotMask"
    assert said not in comfy.request(f"{served}.md").decode()
    assert "GridDot Mask\n" in comfy.request(f"{served}/{language}.md").decode().splitlines(True)[0]
