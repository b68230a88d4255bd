"""The GridDot panel with the page's right sidebar open, and what anyone must be able to read."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

pytest_plugins = ["griddot_fixtures"]
HALF_PIXEL = 0.006  # of the picture, as large as the panel shows it
ONE = '{"version":1,"dots":[{"x":0.4,"y":0.5,"radius":0.25,"strength":1}]}'
BOX = '{"version":2,"boxes":[{"x0":0.1,"y0":0.6,"x1":0.5,"y1":0.9,"strength":-1}]}'
OPEN = """async open => {
    app.canvas.selectNode(made.dot)
    await app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', open)
}"""
WIDTH = "() => made.dot.widgets.find(widget => widget.name === 'dots').width ?? null"
NODE_PLACE = "() => [...made.dot.pos, ...made.dot.size]"
OFFSET = "() => [...app.canvas.ds.offset]"
SMALLEST = 11  # pixels of a letter
SIZES = """() => [...document.querySelectorAll('.griddot, .griddot *')]
    .filter(each => each.textContent || each instanceof HTMLInputElement)
    .map(each => parseFloat(getComputedStyle(each).fontSize))"""


@pytest.fixture
def beside(panel, opened):
    """The panel with one dot, and the sidebar open on its node."""
    panel.alone(ONE)
    before = panel.stage.bounding_box()
    opened.evaluate(OPEN, True)
    opened.page.get_by_text("Parameters", exact=True).first.wait_for()
    panel.settle()
    yield panel, before
    opened.evaluate(OPEN, False)


def test_the_panel_stays_as_wide_and_clicks_land_where_they_are_made(beside, opened):
    panel, before = beside
    assert opened.evaluate(WIDTH) is None
    assert panel.stage.bounding_box() == before
    place = opened.evaluate(NODE_PLACE)
    panel.click(0.6, 0.2)
    assert abs(panel.dots[1]["x"] - 0.6) <= HALF_PIXEL
    panel.drag((0.6, 0.2), (0.8, 0.9))
    assert abs(panel.dots[1]["x"] - 0.8) <= HALF_PIXEL
    assert abs(panel.dots[1]["y"] - 0.9) <= HALF_PIXEL
    assert opened.evaluate(NODE_PLACE) == place


def test_the_sidebar_has_no_empty_place_for_it(beside, opened):
    """Its other widgets are there, one below the other."""
    rows = [opened.page.get_by_text(name, exact=True) for name in ("image_number", "combine")]
    tops = [row.last.bounding_box()["y"] for row in rows]
    assert 0 < tops[1] - tops[0] < 120
    sidebar = rows[0].last.bounding_box()["x"]
    named = opened.page.get_by_text("dots", exact=True).all()
    assert all(each.bounding_box()["x"] < sidebar - 50 for each in named if each.is_visible())


def test_the_middle_button_moves_the_graph(panel, opened):
    panel.alone(ONE)
    x, y = panel.at(0.5, 0.5)
    before = opened.evaluate(OFFSET)
    opened.page.mouse.move(x, y)
    opened.page.mouse.down(button="middle")
    opened.page.mouse.move(x + 60, y + 30, steps=6)
    opened.page.mouse.up(button="middle")
    now = opened.evaluate(OFFSET)
    assert (now[0] - before[0], now[1] - before[1]) == pytest.approx((60, 30), abs=12)
    assert panel.saved() == ONE
    opened.page.mouse.move(x + 120, y)  # released: it moves no more
    assert opened.evaluate(OFFSET) == now


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_its_words_can_be_read(panel, opened, palette):
    opened.evaluate("name => app.extensionManager.setting.set('Comfy.ColorPalette', name)", palette)
    found = []
    for text, large in ((ONE, False), ("{broken", False), (BOX, False), (BOX, True)):
        panel.alone(text)
        if large:
            panel.button("Large editor").click()
            panel.settle()
        assert min(opened.evaluate(SIZES)) >= SMALLEST
        context = "dialog.griddot-large" if large else ".griddot"
        found += Axe().run(opened.page, context=context).response["violations"]
    panel.button("Close").click()
    opened.evaluate("name => app.extensionManager.setting.set('Comfy.ColorPalette', name)", "dark")
    bad = [one for one in found if one["impact"] in ("serious", "critical")]
    assert bad == [], [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in bad]
