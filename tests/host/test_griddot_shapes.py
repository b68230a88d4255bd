"""The GridDot panel's brush and box, by mouse, pen, finger and keys, in both renderers."""

from __future__ import annotations

import json
import random

import pytest
import torch
from griddot_page import NODE

from vlm.tokens.griddot import radial_mask
from vlm.tokens.shape_text import parse_dots, write_dots
from vlm.tokens.shapes import MAX_POINTS, Box, Dot, Stroke

pytest_plugins = ["griddot_fixtures"]
HALF_PIXEL = 0.006  # of the picture, as large as the panel shows it
ONE = '{"version":1,"dots":[{"x":0.4,"y":0.5,"radius":0.25,"strength":1}]}'
ALL = (
    '{"version":2,"dots":[{"x":0.8,"y":0.8,"radius":0.2,"strength":1}],'
    '"boxes":[{"x0":0.1,"y0":0.6,"x1":0.5,"y1":0.9,"strength":1}],'
    '"strokes":[{"points":[[0.1,0.1],[0.5,0.1],[0.5,0.3]],"radius":0.1,"strength":-1}]}'
)


def shapes(panel):
    """The drawing; what is saved and what is queued must be the same, and the library reads it."""
    text = panel.saved()
    assert text == panel.queued()
    parse_dots(text)
    return json.loads(text) if text else {"version": 0, "dots": [], "boxes": [], "strokes": []}


def take(panel, tool):
    panel.button(tool).click()
    assert panel.button(tool).get_attribute("aria-pressed") == "true"


def near(one, other):
    return all(abs(a - b) <= HALF_PIXEL for a, b in zip(one, other, strict=True))


# --- the mouse -----------------------------------------------------------------------------------


def test_a_box_is_dragged(panel):
    panel.alone(ONE)
    take(panel, "Box")
    panel.drag((0.7, 0.9), (0.2, 0.6))  # from any corner to the other
    (box,) = shapes(panel)["boxes"]
    assert near([box[key] for key in ("x0", "y0", "x1", "y1")], (0.2, 0.6, 0.7, 0.9))
    assert box["strength"] == 1 and "Box 1 of 1" in panel.status()
    panel.click(0.9, 0.2)  # a click makes none
    assert len(shapes(panel)["boxes"]) == 1
    panel.drag((0.7, 0.9), (0.8, 0.95))  # a corner
    panel.drag((0.5, 0.775), (0.4, 0.675))  # the middle
    (box,) = shapes(panel)["boxes"]
    assert near([box[key] for key in ("x0", "y0", "x1", "y1")], (0.1, 0.5, 0.7, 0.85))
    assert panel.field("left").input_value() == str(box["x0"])
    panel.field("bottom").fill("1")
    panel.press("Tab")
    assert shapes(panel)["boxes"][0]["y1"] == 1
    panel.button("Remove").click()
    assert panel.saved() == ONE  # the dots alone again, as every release reads them


def test_a_brush_draws_a_stroke(panel):
    panel.alone()
    take(panel, "Brush")
    assert panel.status().startswith("Draw a stroke")
    panel.mouse.move(*panel.at(0.2, 0.2))
    panel.mouse.down()
    panel.mouse.move(*panel.at(0.8, 0.2), steps=60)
    panel.mouse.move(*panel.at(0.8, 0.7), steps=60)
    assert panel.saved() == ""  # one step, seen by the page at its end
    panel.mouse.up()
    (stroke,) = shapes(panel)["strokes"]
    points = stroke["points"]
    assert near(points[0], (0.2, 0.2)) and near(points[-1], (0.8, 0.7))
    assert 10 < len(points) < 60  # as many as the radius shows
    assert all(near([y], [0.2]) or near([x], [0.8]) for x, y in points)
    assert (stroke["radius"], stroke["strength"]) == (0.1, 1)
    panel.field("radius").fill("0.2")
    panel.field("strength").fill("-0.5")
    panel.press("Tab")
    panel.drag((0.2, 0.8), (0.5, 0.8))  # the next is like it
    first, second = shapes(panel)["strokes"]
    assert (second["radius"], second["strength"]) == (0.2, -0.5)
    assert "Stroke 2 of 2" in panel.status()
    panel.drag((0.2, 0.2), (0.4, 0.3))  # by where it begins, as it is
    moved = shapes(panel)["strokes"][0]["points"]
    assert len(moved) == len(points) and near(moved[-1], (1, 0.8))
    panel.press("Control+z", "Control+z", "Control+z")
    assert [each["points"] for each in shapes(panel)["strokes"]] == [points]
    panel.press("Control+y")
    assert len(shapes(panel)["strokes"]) == 1 and shapes(panel)["strokes"][0] == first


def test_a_click_with_the_brush_is_a_point(panel):
    panel.alone()
    take(panel, "Brush")
    panel.click(0.3, 0.6)
    (stroke,) = shapes(panel)["strokes"]
    assert len(stroke["points"]) == 1 and near(stroke["points"][0], (0.3, 0.6))


def test_drawings_are_kept_and_undone(panel):
    panel.alone(ALL)
    assert panel.saved() == ALL and "Stroke 1 of 1" in panel.status()
    panel.drag((0.3, 0.75), (0.4, 0.75))  # the box, though the dots are taken
    assert near([shapes(panel)["boxes"][0]["x0"]], [0.2])
    panel.press("Control+z")
    assert panel.saved() == ALL
    workflow = panel.page.workflow()
    panel.alone()
    panel.page.load(workflow)
    panel.settle()
    assert panel.saved() == ALL
    panel.click(0.3, 0.75, button="right")
    panel.page.page.locator(".griddot-menu button", has_text="Remove box").click()
    drawn = shapes(panel)
    assert [len(drawn[key]) for key in ("dots", "boxes", "strokes")] == [1, 0, 1]


def test_a_picture_takes_so_many_points(panel):
    rest = MAX_POINTS - 5
    panel.alone(write_dots([Stroke([[0.9, 0.9]] * rest, 0.01)]))
    take(panel, "Brush")
    panel.drag((0.1, 0.1), (0.8, 0.1))
    panel.mouse.move(*panel.at(0.1, 0.3))
    panel.mouse.down()
    panel.mouse.move(*panel.at(0.8, 0.5), steps=40)
    panel.mouse.up()
    strokes = shapes(panel)["strokes"]
    assert sum(len(each["points"]) for each in strokes) == MAX_POINTS
    panel.click(0.2, 0.8)
    assert len(shapes(panel)["strokes"]) == len(strokes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version":3,"dots":[]}', "version 3"),
        ('{"version":2,"boxes":[{"x0":0.5,"y0":0,"x1":0.2,"y1":1}]}', "box 1 has no inside"),
        ('{"version":2,"strokes":[{"points":[],"radius":1}]}', "stroke 1: points is no list"),
        ('{"version":2,"strokes":[{"points":[[0,7]],"radius":1}]}', "stroke 1: y is not 0 to 1"),
        ('{"version":2,"lines":[]}', "what is lines?"),
    ],
)
def test_what_cannot_be_read_is_told(panel, text, message):
    panel.alone(text)
    assert f"({message}" in panel.status() and panel.saved() == text
    with pytest.raises(ValueError):
        parse_dots(text)


# --- the keyboard --------------------------------------------------------------------------------


def test_boxes_and_strokes_by_keyboard(panel):
    panel.alone()
    panel.stage.focus()
    panel.press("r", "Enter")
    corners = [shapes(panel)["boxes"][0][key] for key in ("x0", "y0", "x1", "y1")]
    assert corners == [0.25, 0.25, 0.75, 0.75]
    panel.press("ArrowLeft", "Shift+ArrowDown", "+")
    box = shapes(panel)["boxes"][0]
    assert box == {"x0": 0.225, "y0": 0.285, "x1": 0.755, "y1": 0.815, "strength": 1}
    panel.press("b", "Enter", "ArrowUp", "-")
    (stroke,) = shapes(panel)["strokes"]
    assert stroke["points"] == [[0.5, 0.49]] and stroke["radius"] == pytest.approx(0.094, abs=1e-3)
    panel.press("d", "Enter", "p", "Delete")  # dots come first, before them the last
    drawn = shapes(panel)
    assert [len(drawn[key]) for key in ("dots", "boxes", "strokes")] == [1, 1, 0]
    assert NODE in panel.page.node_types()


def test_the_tools_have_names(panel):
    panel.alone()
    tools = panel.page.page.locator(".griddot [aria-label=Tools] button")
    assert [each.get_attribute("aria-label").split()[0] for each in tools.all()] == [
        "Dots", "Brush", "Box",
    ]  # fmt: skip
    pressed = [each.get_attribute("aria-pressed") for each in tools.all()]
    assert pressed == ["true", "false", "false"]


# --- pen and finger ------------------------------------------------------------------------------


class Hand:
    """A pen or a finger in the page, through Chromium itself."""

    def __init__(self, page, kind):
        self.session, self.kind = page.context.new_cdp_session(page), kind

    def _pen(self, what, x, y):
        held = {"button": "left", "buttons": 0 if what == "mouseReleased" else 1, "clickCount": 1}
        self.session.send(
            "Input.dispatchMouseEvent",
            {"type": what, "x": x, "y": y, "pointerType": "pen", "force": 0.4} | held,
        )

    def _finger(self, what, points):
        self.session.send("Input.dispatchTouchEvent", {"type": what, "touchPoints": points})

    def drag(self, *places):
        """Presses at the first place, goes through the others and lets go."""
        (x, y), *rest = places
        if self.kind == "pen":
            self._pen("mousePressed", x, y)
            for x, y in rest:
                self._pen("mouseMoved", x, y)
            self._pen("mouseReleased", x, y)
            return
        self._finger("touchStart", [{"x": x, "y": y}])
        for x, y in rest:
            self._finger("touchMove", [{"x": x, "y": y}])
        self._finger("touchEnd", [])


@pytest.fixture(params=["pen", "touch"])
def hand(request, panel, opened):
    """The page notes which kinds of pointers pressed the stage."""
    panel.alone(ONE)
    opened.evaluate(
        """() => {
            window.kinds = new Set()
            document.querySelector('.griddot-stage').addEventListener(
                'pointerdown', event => kinds.add(event.pointerType))
        }"""
    )
    made = Hand(opened.page, request.param)
    yield made
    assert opened.evaluate("() => [...kinds]") == [request.param]


def between(panel, start, end, steps=12):
    """Places on the screen on the way from one place of the picture to another."""
    shares = [step / steps for step in range(steps + 1)]
    return [
        panel.at(start[0] + s * (end[0] - start[0]), start[1] + s * (end[1] - start[1]))
        for s in shares
    ]


def test_a_pen_and_a_finger_place_and_drag_dots(panel, opened, hand):
    offset = opened.evaluate("() => [...app.canvas.ds.offset, app.canvas.ds.scale]")
    hand.drag(panel.at(0.8, 0.2))
    panel.until(lambda: len(panel.dots) == 2)
    assert near([panel.dots[1][key] for key in "xy"], (0.8, 0.2))
    hand.drag(*between(panel, (0.4, 0.5), (0.2, 0.7)))
    panel.until(lambda: near([panel.dots[0][key] for key in "xy"], (0.2, 0.7)))
    radius = panel.dots[0]["radius"]
    hand.drag(*between(panel, (0.2 + radius, 0.7), (0.6, 0.7)))
    panel.until(lambda: panel.dots[0]["radius"] > 0.35)
    assert len(panel.dots) == 2
    assert opened.evaluate("() => [...app.canvas.ds.offset, app.canvas.ds.scale]") == offset


def test_a_pen_and_a_finger_draw(panel, hand):
    panel.press("b")
    panel.stage.focus()
    panel.press("b")
    hand.drag(*between(panel, (0.1, 0.9), (0.9, 0.9), 40))
    panel.until(lambda: len(shapes(panel).get("strokes", [])) == 1)
    points = shapes(panel)["strokes"][0]["points"]
    assert near(points[0], (0.1, 0.9)) and near(points[-1], (0.9, 0.9)) and len(points) > 10
    panel.press("r")
    hand.drag(*between(panel, (0.6, 0.1), (0.9, 0.3)))
    panel.until(lambda: len(shapes(panel)["boxes"]) == 1)
    box = shapes(panel)["boxes"][0]
    assert near([box[key] for key in ("x0", "y0", "x1", "y1")], (0.6, 0.1, 0.9, 0.3))


# --- the weights ---------------------------------------------------------------------------------


def random_shapes(rng):
    place = lambda: [round(rng.random(), 3), round(rng.random(), 3)]  # noqa: E731
    drawn = [
        Dot(*place(), rng.uniform(0.1, 1), rng.uniform(-1, 1)) for _ in range(rng.randint(0, 2))
    ]
    for _ in range(rng.randint(0, 2)):
        (x0, y0), (x1, y1) = (rng.uniform(0, 0.5), rng.uniform(0, 0.5)), place()
        drawn.append(Box(x0, y0, x0 / 2 + 0.5 + x1 / 4, y0 / 2 + 0.5 + y1 / 4, rng.uniform(-1, 1)))
    for _ in range(rng.randint(1, 2)):
        points = [place() for _ in range(rng.randint(1, 6))]
        drawn.append(Stroke(points, rng.uniform(0.05, 0.6), rng.uniform(-1, 1)))
    return drawn


@pytest.mark.parametrize("combine", ["max", "sum", "screen"])
def test_the_page_weighs_boxes_and_strokes_as_the_library_does(panel, combine):
    rng = random.Random(f"{combine} shapes")
    for _ in range(30):
        rows, cols = rng.randint(1, 14), rng.randint(1, 14)
        text, floor = write_dots(random_shapes(rng)), rng.uniform(0.1, 0.9)
        mask = [rng.random() for _ in range(rows * cols)] if rng.random() < 0.5 else None
        here, error = panel.module(
            """(m, [rows, cols, text, combine, floor, mask]) => {
                const {dots, error} = m.parseDots(text)
                return [[...m.radialMask(rows, cols, dots, combine, floor, mask)], error]
            }""",
            [rows, cols, text, combine, floor, mask],
        )
        assert error == ""
        grid = None if mask is None else torch.tensor(mask).reshape(rows, cols)
        there = radial_mask(rows, cols, parse_dots(text), combine, floor, grid)
        assert (torch.tensor(here).reshape(rows, cols) - there).abs().max() <= 1e-5


def test_many_points_are_drawn_at_once(panel):
    """A whole picture of points on the grid of a megapixel."""
    points = [[(at % 97) / 97, (at % 89) / 89] for at in range(MAX_POINTS)]
    took = panel.module(
        """(m, text) => {
            const {dots} = m.parseDots(text)
            const start = performance.now()
            m.radialMask(32, 32, dots, 'max', 0)
            return performance.now() - start
        }""",
        write_dots([Stroke(points, 0.1)]),
    )
    assert took < 2000
