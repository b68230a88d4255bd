"""The help pages as ComfyUI's sidebar shows them: whole, and in words that can be read."""

from __future__ import annotations

import pytest
from browser import ComfyPage
from griddot_page import EMPTY, settings
from layouts import HELP, PALETTE, hard_to_read

OPEN = """async type => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    app.canvas.selectNode(node)
    await app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', true)
}"""
# Tables and cells of which the sidebar shows a part.
CUT = """() => [...document.querySelectorAll('.node-help-content :is(table, td)')]
    .filter(each => each.scrollWidth > each.clientWidth + 1
        || each.getBoundingClientRect().right > innerWidth)
    .map(each => each.innerText.slice(0, 80))"""
LANGUAGES = ("en", "zh")


@pytest.fixture(scope="module", params=LANGUAGES)
def page(request, browser, comfy):
    more = {"Comfy.Locale": request.param}
    opened = ComfyPage(browser, comfy, settings=settings("classic") | more)
    yield opened
    opened.close()
    comfy.post("/api/settings", {"Comfy.Locale": "en"})


@pytest.mark.parametrize("palette", ["dark", "light"])
@pytest.mark.parametrize("node", ["VLMCImagePrompt", "VLMCLoader"])
def test_words_of_a_help_page_can_be_read(page, node, palette):
    page.load(EMPTY)
    page.evaluate(PALETTE, palette)
    page.evaluate(OPEN, node)
    page.page.locator("[role=tab]").nth(-2).click()  # workflows, parameters, info, settings
    page.page.locator(".node-help-content h1").wait_for()
    page.page.wait_for_timeout(400)
    assert hard_to_read(page, HELP) == {}
    assert page.page.locator(".node-help-content td > code").count() > 3
    assert page.evaluate(CUT) == []
