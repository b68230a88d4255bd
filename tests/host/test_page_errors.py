"""Errors that the browser tests let pass are the page's own: native nodes alone provoke them."""

from __future__ import annotations

import pytest
from browser import PAGES_OWN
from griddot_page import EMPTY

# A node with growing inputs, wired and removed; what the page put off comes two frames later.
REMOVED = """async ([type, input]) => {
    const source = LiteGraph.createNode('EmptyImage'), node = LiteGraph.createNode(type)
    app.graph.add(source)
    app.graph.add(node)
    source.connect(0, node, input)
    const frame = () => new Promise(requestAnimationFrame)
    for (let n = 0; n < 3; n++) await frame()
    app.graph.remove(node)
    for (let n = 0; n < 3; n++) await frame()
}"""


def seen(page, node, slot):
    """What removing this node makes the page say: its own errors, and the others."""
    page.load(EMPTY)
    page.messages.clear()
    page.evaluate(REMOVED, [node, slot])
    return page.own_errors(), page.errors()


def test_a_removed_node_with_growing_inputs(comfy, open_page):
    page = open_page(comfy)
    native = seen(page, "BatchImagesNode", "images.image0")
    assert native == seen(page, "VLMCEncode", "images.image0")
    assert native[1] == []


@pytest.mark.parametrize("message, function", PAGES_OWN)
def test_only_the_exact_error_passes(comfy, open_page, message, function):
    page = open_page(comfy)
    page.messages[:] = [
        f"pageerror: {message}\n    at {function} (http://page/x.js:1:1)",
        f"pageerror: {message}\n    at ours (http://page/x.js:1:1)",
        f"pageerror: {message} More.\n    at {function} (http://page/x.js:1:1)",
        message,
    ]
    assert page.errors() == page.messages[1:]
