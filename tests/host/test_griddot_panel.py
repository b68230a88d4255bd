"""The GridDot panel in a real browser, in both of ComfyUI's renderers: what people do in it."""

from __future__ import annotations

import json

import pytest
import torch
from griddot_page import NODE, WIDE

from vlm.tokens.griddot import radial_mask
from vlm.tokens.shape_text import parse_dots

pytest_plugins = ["griddot_fixtures"]
HALF_PIXEL = 0.006  # of the picture, as large as the panel shows it
ONE = '{"version":1,"dots":[{"x":0.4,"y":0.5,"radius":0.25,"strength":1}]}'
TWO = ONE[:-2] + ',{"x":0.8,"y":0.2,"radius":0.5,"strength":-0.5}]}'


def near(dot, x, y):
    return abs(dot["x"] - x) <= HALF_PIXEL and abs(dot["y"] - y) <= HALF_PIXEL


# --- the mouse -----------------------------------------------------------------------------------


def test_a_click_adds_a_dot(panel):
    panel.alone()
    assert panel.dots == [] and panel.saved() == ""
    assert panel.status().startswith("Click to add a dot · 4 × 4 tokens (estimate")
    panel.click(0.25, 0.75)
    panel.click(0.9, 0.1)
    first, second = panel.dots
    assert near(first, 0.25, 0.75) and near(second, 0.9, 0.1)
    assert (first["radius"], first["strength"]) == (0.3, 1)
    assert "Dot 2 of 2" in panel.status()


def test_a_click_beside_the_picture_adds_nothing(panel):
    panel.alone(picture=WIDE)
    assert panel.status().startswith("Click to add a dot · 2 × 6 tokens (estimate")
    left, top, width, height = panel.box(aspect=3)
    panel.mouse.click(left + width / 2, top - 8)
    assert panel.dots == []
    panel.mouse.click(left + width / 2, top + 0.9 * height)
    assert near(panel.dots[0], 0.5, 0.9)


def test_dragging_moves_a_dot(panel):
    panel.alone(TWO)
    panel.drag((0.4, 0.5), (0.1, 0.9))
    first, second = panel.dots
    assert near(first, 0.1, 0.9)
    assert (second["x"], second["y"]) == (0.8, 0.2)
    panel.drag((0.1, 0.9), (-0.4, 0.5))  # beyond the edge it stays on it
    assert near(panel.dots[0], 0, 0.5)


def test_a_drag_is_one_step(panel):
    """The page may look at the graph at any moment, and would undo to what it saw."""
    panel.alone(ONE)
    panel.mouse.move(*panel.at(0.4, 0.5))
    panel.mouse.down()
    panel.mouse.move(*panel.at(0.6, 0.5), steps=3)
    assert panel.saved() == ONE
    assert float(panel.field("x").input_value()) > 0.55
    panel.mouse.up()
    assert near(panel.dots[0], 0.6, 0.5)


def test_a_new_dot_is_dragged_at_once(panel):
    panel.alone()
    panel.drag((0.2, 0.2), (0.6, 0.7))
    (dot,) = panel.dots
    assert near(dot, 0.6, 0.7)


def test_the_handle_sets_the_radius(panel):
    panel.alone(ONE)
    panel.drag((0.65, 0.5), (0.85, 0.5))
    (dot,) = panel.dots
    assert (dot["x"], dot["y"]) == (0.4, 0.5)
    assert abs(dot["radius"] - 0.45) <= 2 * HALF_PIXEL


def test_the_wheel_sets_the_radius_of_a_panel_in_use(panel):
    panel.alone(ONE)
    zoom = "() => app.canvas.ds.scale"
    before = panel.page.evaluate(zoom)
    panel.click(0.4, 0.5)
    panel.wheel(3)
    assert panel.dots[0]["radius"] == pytest.approx(0.25 * 1.06**3, abs=0.002)
    panel.wheel(-3)
    assert panel.dots[0]["radius"] == pytest.approx(0.25, abs=0.003)
    assert panel.page.evaluate(zoom) == before


@pytest.mark.parametrize("radius", [0.005, 0.008])
def test_the_wheel_and_the_keys_set_a_small_radius(panel, radius):
    panel.alone(ONE.replace("0.25", str(radius)))
    panel.click(0.4, 0.5)
    panel.wheel(10)
    assert panel.dots[0]["radius"] == pytest.approx(radius * 1.06**10, rel=0.05)
    for _ in range(10):
        panel.keyboard.press("+")
    assert panel.dots[0]["radius"] == pytest.approx(radius * 1.06**20, rel=0.05)
    for _ in range(10):
        panel.keyboard.press("-")
    assert panel.dots[0]["radius"] == pytest.approx(radius * 1.06**10, rel=0.05)


@pytest.mark.parametrize("zoom", [0.6, 1.3])
def test_on_a_zoomed_graph(panel, zoom):
    panel.alone(ONE)
    panel.page.evaluate("zoom => { app.canvas.ds.scale = zoom; app.canvas.setDirty(true) }", zoom)
    panel.settle()
    panel.drag((0.4, 0.5), (0.7, 0.2))
    (dot,) = panel.dots
    assert abs(dot["x"] - 0.7) <= 2 * HALF_PIXEL and abs(dot["y"] - 0.2) <= 2 * HALF_PIXEL


def test_a_dot_is_removed_by_the_menu(panel):
    panel.alone(TWO)
    panel.click(0.4, 0.5, button="right")
    panel.page.page.locator(".griddot-menu button", has_text="Remove dot").click()
    assert [dot["x"] for dot in panel.dots] == [0.8]
    panel.click(0.5, 0.9, button="right")
    panel.page.page.locator(".griddot-menu button", has_text="Remove all").click()
    assert panel.dots == []


@pytest.mark.parametrize(
    ("name", "heavy"), [("Left", (0.0, 0.4)), ("Bottom", (0.6, 1.0)), ("Middle", (0.3, 0.7))]
)
def test_dots_to_begin_with(panel, name, heavy):
    """What the name says is where the weight lies, and it is one step to undo."""
    panel.alone(TWO)
    panel.page.page.locator(".griddot button", has_text="▾").click()
    panel.page.page.locator(".griddot-menu button", has_text=name).click()
    weights = radial_mask(12, 12, parse_dots(panel.saved()))
    along = weights.sum(dim=1 if name == "Bottom" else 0)
    low, high = (round(edge * 12) for edge in heavy)
    assert along[low:high].mean() > 2 * torch.cat([along[:low], along[high:]]).mean()
    panel.page.page.locator(".griddot button", has_text="↶").click()
    panel.until(lambda: panel.saved() == TWO)


# --- the keyboard and the fields -----------------------------------------------------------------


def test_everything_by_keyboard(panel):
    panel.alone()
    panel.stage.focus()
    panel.press("Enter")
    assert panel.dots == [{"x": 0.5, "y": 0.5, "radius": 0.3, "strength": 1}]
    panel.press("ArrowLeft", "ArrowLeft", "ArrowDown", "Shift+ArrowRight")
    assert [panel.dots[0][key] for key in "xy"] == [0.53, 0.51]
    panel.press("+", "+", "-")
    assert panel.dots[0]["radius"] == pytest.approx(0.318)
    panel.press("Enter", "ArrowUp", "p", "ArrowUp", "n", "ArrowUp")
    assert [dot["y"] for dot in panel.dots] == [0.5, 0.48]
    panel.press("Delete")
    assert len(panel.dots) == 1
    panel.press("Backspace", "Delete")
    assert panel.dots == []
    assert NODE in panel.page.node_types()  # Delete is the panel's, not the graph's


def test_the_panel_is_reached_by_tab_and_has_names(panel):
    panel.alone(ONE)
    panel.stage.focus()
    names = []
    for _ in range(6):
        panel.press("Tab")
        names.append(panel.page.evaluate("() => document.activeElement.getAttribute('aria-label')"))
    starts = ["x", "y", "radius", "strength", "Dots", "Remove"]
    assert [name.split(" ")[0] for name in names] == starts
    assert "arrow keys move it" in panel.stage.get_attribute("aria-label")
    assert panel.page.page.locator(".griddot-status").get_attribute("aria-live") == "polite"


def test_values_typed_exactly(panel):
    panel.alone(ONE)
    for name, typed in [("x", "0.123"), ("y", "1"), ("radius", "2.5"), ("strength", "-0.75")]:
        panel.field(name).fill(typed)
        panel.press("Tab")
    assert panel.dots == [{"x": 0.123, "y": 1, "radius": 2.5, "strength": -0.75}]
    panel.field("x").fill("7")  # cut to the picture
    panel.press("Tab")
    panel.field("radius").fill("")  # nothing typed: as it was
    panel.press("Tab")
    assert (panel.dots[0]["x"], panel.dots[0]["radius"]) == (1, 2.5)
    assert panel.field("radius").input_value() == "2.5"


# --- undo ----------------------------------------------------------------------------------------


def test_undo_in_the_panel(panel):
    panel.alone(ONE)
    panel.page.evaluate("() => { window.same = made.dot }")
    panel.drag((0.4, 0.5), (0.7, 0.5))
    panel.click(0.2, 0.2)
    panel.wheel(3)
    grown = panel.dots[1]["radius"]
    panel.press("Control+z")
    panel.page.page.wait_for_timeout(400)  # the page's own undo would come a frame later
    assert panel.dots[1]["radius"] == 0.25
    panel.press("Control+z", "Control+z", "Control+z", "Control+z")
    assert panel.saved() == ONE
    panel.press("Control+Shift+z")
    assert near(panel.dots[0], 0.7, 0.5)
    panel.press("Control+y", "Control+y")
    assert panel.dots[1]["radius"] == grown
    panel.button("Undo").click()
    assert panel.dots[1]["radius"] == 0.25
    panel.press("Control+z")  # the button has the focus now
    assert len(panel.dots) == 1
    panel.page.page.wait_for_timeout(400)
    assert panel.page.evaluate("() => app.graph.nodes.includes(same)"), "the graph was undone"


def test_undo_of_the_graph(panel):
    # Without Load Image: it grows once its picture is there, which the page takes for an edit.
    panel.alone(ONE, picture=None)
    panel.drag((0.4, 0.5), (0.7, 0.5))
    moved, shown = panel.saved(), panel.field("x").input_value()
    panel.undo_in_graph("Control+z", then=ONE)
    panel.until(lambda: panel.field("x").input_value() == "0.4")
    panel.undo_in_graph("Control+y", then=moved)
    panel.until(lambda: panel.field("x").input_value() == shown)
    assert near(panel.dots[0], 0.7, 0.5)
    panel.drag((0.7, 0.5), (0.2, 0.5))  # the panel shown is that of the node now in the graph
    assert near(panel.dots[0], 0.2, 0.5)


# --- the workflow --------------------------------------------------------------------------------


def test_a_workflow_keeps_the_dots(panel):
    panel.alone(ONE)
    panel.click(0.8, 0.8)
    kept, workflow = panel.dots, panel.page.workflow()
    panel.alone()
    assert panel.dots == []
    panel.page.load(workflow)
    panel.settle()
    assert panel.dots == kept
    assert "Dot 2 of 2" in panel.status()
    panel.drag((0.4, 0.5), (0.2, 0.2))
    assert near(panel.dots[0], 0.2, 0.2)


def test_another_workflow_with_the_same_ids(panel):
    panel.alone(TWO)
    other = panel.page.workflow()
    panel.alone(ONE)
    panel.page.load(other)
    panel.settle()
    assert "Dot 2 of 2" in panel.status()
    panel.drag((0.4, 0.5), (0.2, 0.3))
    assert near(panel.dots[0], 0.2, 0.3) and len(panel.dots) == 2


def test_the_page_reloaded(panel, opened):
    panel.alone(TWO)
    panel.drag((0.4, 0.5), (0.2, 0.3))
    kept = panel.dots
    opened.page.wait_for_timeout(1500)  # the page puts its draft aside
    opened.page.reload(wait_until="domcontentloaded")
    opened.page.wait_for_function("() => window.app?.canvas?.graph", timeout=120_000)
    opened.page.wait_for_function(
        "type => app.graph.nodes.some(node => node.type === type)", arg=NODE, timeout=60_000
    )
    panel.settle()
    assert panel.dots == kept


def test_copy_and_paste(panel):
    panel.alone(TWO)
    panel.page.evaluate("() => { app.canvas.deselectAll(); app.canvas.selectNode(made.dot) }")
    panel.page.page.locator("#graph-canvas").focus()
    panel.press("Control+c", "Control+v")
    panel.settle()
    read = """([type]) => app.graph.nodes.filter(node => node.type === type)
        .map(node => node.widgets.find(widget => widget.name === 'dots').value)"""
    assert panel.page.evaluate(read, [NODE]) == [TWO, TWO]
    panel.page.evaluate("() => { made.dot.pos[0] -= 60; app.canvas.deselectAll() }")
    panel.page.page.locator(".griddot-stage").nth(1).focus()
    panel.press("Delete")
    texts = panel.page.evaluate(read, [NODE])
    assert sorted(len(json.loads(text)["dots"]) for text in texts) == [1, 2]


def test_text_that_cannot_be_read_is_kept_until_a_dot_is_added(panel):
    panel.alone('[{"x": 0.5')
    assert "The dots cannot be read" in panel.status()
    assert panel.saved() == '[{"x": 0.5'
    panel.click(0.3, 0.3)
    assert near(panel.dots[0], 0.3, 0.3)
    panel.press("Control+z")
    assert panel.saved() == '[{"x": 0.5'


def test_a_bare_list_written_by_hand(panel):
    panel.alone('[{"x": 0.5, "y": 0.25, "radius": 0.1}]')
    assert panel.field("strength").input_value() == "1"
    panel.stage.focus()
    panel.press("ArrowRight")
    assert panel.dots == [{"x": 0.51, "y": 0.25, "radius": 0.1, "strength": 1}]
