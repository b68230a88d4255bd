"""The GridDot panel's large editor, in both renderers: the panel itself in a dialog."""

from __future__ import annotations

import pytest
from griddot_page import NODE

pytest_plugins = ["griddot_fixtures"]
SCREEN = {"width": 1366, "height": 768}
CLOSE_BY = 0.004  # of the picture, a pixel or two of the large one
ONE = '{"version":1,"dots":[{"x":0.4,"y":0.5,"radius":0.25,"strength":1}]}'
TWO = ONE[:-2] + ',{"x":0.8,"y":0.2,"radius":0.5,"strength":-0.5}]}'
FOCUSED = "() => document.activeElement.getAttribute('aria-label')"
OUTSIDE = """() => [...document.querySelectorAll('dialog.griddot-large, .griddot-large *')]
    .filter(each => each.checkVisibility() && each.getClientRects().length)
    .filter(each => {
        const {left, top, right, bottom} = each.getBoundingClientRect()
        return left < 0 || top < 0 || right > innerWidth || bottom > innerHeight
    }).map(each => each.outerHTML.slice(0, 80))"""


@pytest.fixture
def editor(panel, opened):
    """The dialog's locator; it is closed at the end."""
    before = opened.page.viewport_size
    opened.page.set_viewport_size(SCREEN)
    yield opened.page.locator("dialog.griddot-large")
    opened.page.evaluate("() => document.querySelector('dialog.griddot-large')?.close()")
    opened.page.set_viewport_size(before)


def test_it_is_large_and_nothing_of_it_is_off_the_screen(panel, editor, opened):
    panel.alone(TWO)
    small = panel.stage.bounding_box()
    panel.button("Large editor").click()
    panel.until(lambda: editor.is_visible())
    box, stage = editor.bounding_box(), panel.stage.bounding_box()
    assert abs(box["width"] - 0.92 * SCREEN["width"]) <= 1
    assert abs(box["height"] - 0.92 * SCREEN["height"]) <= 1
    assert stage["width"] > 2 * small["width"] and stage["height"] > 1.5 * small["height"]
    assert opened.evaluate(OUTSIDE) == []
    assert "Dot 2 of 2" in panel.status()


def test_it_edits_the_same_dots(panel, editor):
    """Its values, its steps to undo and what is selected are the panel's."""
    panel.alone(TWO)
    panel.drag((0.4, 0.5), (0.5, 0.5))
    moved = panel.saved()
    panel.button("Large editor").click()
    panel.until(lambda: editor.is_visible())
    assert "Dot 1 of 2" in panel.status()
    panel.drag((0.5, 0.5), (0.2, 0.9))
    dot = panel.dots[0]
    assert abs(dot["x"] - 0.2) <= CLOSE_BY and abs(dot["y"] - 0.9) <= CLOSE_BY
    panel.press("Control+z")
    assert panel.saved() == moved
    panel.press("Control+z")
    assert panel.saved() == TWO
    panel.press("Control+y")
    panel.button("Close").click()
    panel.until(lambda: editor.count() == 0)
    assert panel.saved() == moved
    panel.press("Control+z")  # the button that has the focus again is the panel's
    assert panel.saved() == TWO
    panel.drag((0.4, 0.5), (0.7, 0.5))
    assert abs(panel.dots[0]["x"] - 0.7) <= 0.006


@pytest.mark.parametrize("key", ["l", "Escape"])
def test_keys_open_and_close_it_and_the_focus_comes_back(panel, editor, opened, key):
    panel.alone(ONE)
    before = panel.stage.bounding_box()
    panel.stage.focus()
    panel.press("l")
    panel.until(lambda: editor.is_visible())
    assert opened.evaluate(FOCUSED).startswith("Picture with dots.")
    panel.press("Enter")
    panel.press(key)
    panel.until(lambda: editor.count() == 0)
    assert opened.evaluate(FOCUSED).startswith("Picture with dots.")
    assert len(panel.dots) == 2
    panel.until(lambda: panel.stage.bounding_box() == before)


def test_the_menus_escape_leaves_it_open(panel, editor):
    panel.alone(ONE)
    panel.stage.focus()
    panel.press("l")
    panel.button("Dots to begin with").click()
    panel.press("Escape")
    assert panel.page.page.locator(".griddot-menu").count() == 0
    panel.page.page.wait_for_timeout(200)
    assert editor.is_visible()


def test_the_graph_behind_it_hears_no_key(panel, editor, opened):
    panel.alone(ONE)
    opened.evaluate("() => { app.canvas.deselectAll(); app.canvas.selectNode(made.dot) }")
    nodes = panel.page.node_types()
    panel.stage.focus()
    panel.press("l")
    panel.until(lambda: editor.is_visible())
    panel.button("Close").focus()
    panel.press("Control+c", "Control+v", "Delete")
    editor.click(position={"x": 4, "y": 4})
    panel.press("Control+c", "Control+v", "Delete", "Control+z")
    panel.page.page.wait_for_timeout(400)
    assert panel.page.node_types() == nodes and NODE in nodes
    assert panel.saved() in (ONE, "")  # Delete on a button of the panel is the panel's
