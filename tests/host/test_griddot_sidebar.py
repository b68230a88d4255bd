"""GridDot's panel beside the open sidebar, under the middle button, and its looks for weak eyes."""

from __future__ import annotations

import pytest

pytest_plugins = ["griddot_fixtures"]
ONE = '{"version":1,"dots":[{"x":0.4,"y":0.5,"radius":0.25,"strength":1}]}'
PIXEL = 0.006  # of the picture
SELECT = "() => { app.canvas.selectNode(made.dot); app.canvas.setDirty(true, true) }"
OPEN_SIDEBAR = "() => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', true)"
CLOSE_SIDEBAR = OPEN_SIDEBAR.replace("true", "false")
SIDEBAR = '[data-testid="properties-panel"]'
WIDTHS = "() => made.dot.widgets.map(widget => [widget.name, widget.width ?? null])"
WHERE = "() => [...made.dot.pos]"
# Every text of the panel: its size, and its contrast with what it stands on (WCAG 2.1, 1.4.3).
LOOKS = """() => {
    const numbers = color => color.match(/[\\d.]+/g).map(Number)
    const light = channels => {
        const linear = channels.map(each => each / 255)
            .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }
    const behind = element => {
        const [r, g, b, a = 1] = numbers(getComputedStyle(element).backgroundColor)
        return a === 1 ? [r, g, b] : behind(element.parentElement)
    }
    const panel = document.querySelector('.griddot')
    return [...panel.querySelectorAll('label, input, button, .griddot-status')].map(element => {
        const style = getComputedStyle(element), ground = behind(element)
        const under = behind(element.parentElement), seen = Number(style.opacity)
        const mixed = (over, below) => over.map((each, i) => each * seen + below[i] * (1 - seen))
        const text = light(mixed(numbers(style.color).slice(0, 3), under))
        const paper = light(mixed(ground, under))
        const [dark, bright] = [text, paper].sort((a, b) => a - b)
        const contrast = (bright + 0.05) / (dark + 0.05)
        return [element.outerHTML.slice(0, 60), parseFloat(style.fontSize), contrast]
    })
}"""


@pytest.fixture
def beside(panel):
    """The panel on a selected node, with the sidebar open."""
    panel.alone(ONE)
    panel.page.evaluate(SELECT)
    panel.page.evaluate(OPEN_SIDEBAR)
    panel.page.page.locator(SIDEBAR).wait_for()
    panel.settle()
    yield panel
    panel.page.evaluate(CLOSE_SIDEBAR)
    panel.page.page.locator(SIDEBAR).wait_for(state="detached")


def test_clicks_land_where_they_should(beside):
    place = beside.page.evaluate(WHERE)
    beside.click(0.6, 0.25)
    dot = beside.dots[-1]
    assert dot["x"] == pytest.approx(0.6, abs=PIXEL) and dot["y"] == pytest.approx(0.25, abs=PIXEL)
    beside.drag((0.6, 0.25), (0.2, 0.75))
    dot = beside.dots[-1]
    assert dot["x"] == pytest.approx(0.2, abs=PIXEL) and dot["y"] == pytest.approx(0.75, abs=PIXEL)
    assert beside.page.evaluate(WHERE) == place, "the drag of a dot moved the node"


def test_the_panel_keeps_its_width(beside):
    inside = beside.page.evaluate("() => made.dot.size[0] - 60")
    assert beside.page.page.locator(".griddot").bounding_box()["width"] >= inside
    assert dict(beside.page.evaluate(WIDTHS))["dots"] is None
    beside.page.evaluate("() => { made.dot.widgets.find(w => w.name === 'dots').width = 100 }")
    assert dict(beside.page.evaluate(WIDTHS))["dots"] is None


def test_the_sidebar_has_no_hole(beside):
    text = beside.page.page.locator(SIDEBAR).inner_text()
    assert "combine" in text and "dots" not in text.split()
    assert beside.page.page.locator(f"{SIDEBAR} .griddot").count() == 0
    assert beside.page.page.locator(".griddot").count() == 1


def test_the_middle_button_pans(panel):
    panel.alone(ONE)
    offset = "() => [...app.canvas.ds.offset]"
    before, place = panel.page.evaluate(offset), panel.page.evaluate(WHERE)
    x, y = panel.at(0.5, 0.2)
    panel.mouse.move(x, y)
    panel.mouse.down(button="middle")
    panel.mouse.move(x + 60, y + 40, steps=4)
    panel.mouse.up(button="middle")
    panel.page.page.wait_for_timeout(200)
    moved = [b - a for a, b in zip(before, panel.page.evaluate(offset), strict=True)]
    assert moved == pytest.approx([60, 40], abs=2)
    panel.mouse.move(x + 90, y + 70)
    after = [b - a for a, b in zip(before, panel.page.evaluate(offset), strict=True)]
    assert after == moved, "it goes on without the button"
    assert panel.page.evaluate(WHERE) == place and panel.saved() == ONE


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_every_text_can_be_read(panel, palette):
    choose = "name => app.extensionManager.setting.set('Comfy.ColorPalette', name)"
    panel.page.evaluate(choose, palette)
    try:
        for text in (ONE, "", "{broken"):
            panel.alone(text)
            looks = panel.page.evaluate(LOOKS)
            assert len(looks) == 12
            assert [look for look in looks if look[1] < 11 or look[2] < 4.5] == []
    finally:
        panel.page.evaluate(choose, "dark")
