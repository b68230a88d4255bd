"""The GridDot panel in a page, handled as a person does: by mouse, keys and number fields."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

from browser import ComfyPage
from comfy_host import PACK_FOLDER
from PIL import Image
from workflow_tools import BARE

NODE = "VLMCGridDotMask"
RENDERERS = {"classic": False, "vue": True}
WIDE = "griddot wide.png"
EMPTY = {"nodes": [], "links": [], "version": 0.4, "last_node_id": 0, "last_link_id": 0}
# Nodes by a short name; what feeds what, by names of inputs.
GRAPH = """([types, values, links, offset]) => {
    window.made = {}
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = offset
    for (const [name, [type, x, y]] of Object.entries(types)) {
        const node = LiteGraph.createNode(type)
        node.pos = [x, y]
        app.graph.add(node)
        made[name] = node
        for (const [widget, value] of Object.entries(values[name] ?? {}))
            node.widgets.find(each => each.name === widget).value = value
    }
    for (const [from, output, to, input] of links) made[from].connect(output, made[to], input)
}"""
# As after a person's click: what is there now is what undo comes back to.
TRACKER = "app.extensionManager.workflow.activeWorkflow.changeTracker"
REMEMBER = f"() => {TRACKER}.captureCanvasState()"
# Until the graph looks like what the tracker noted, the next key would count as an edit of it.
AT_REST = f"""() => {{
    const tracker = {TRACKER}
    const graph = JSON.parse(JSON.stringify(app.rootGraph.serialize()))
    return !tracker._restoringState && tracker.constructor.graphEqual(tracker.activeState, graph)
}}"""


def settings(renderer: str) -> dict[str, Any]:
    """ComfyUI settings for one of RENDERERS."""
    return BARE | {"Comfy.VueNodes.Enabled": RENDERERS[renderer], "LiteGraph.Canvas.MaximumFps": 20}


class PanelPage:
    """A page with one GridDot Mask in it.

    Args:
        page: opened with `settings(renderer)`.
    """

    def __init__(self, page: ComfyPage):
        self.page = page
        self.mouse, self.keyboard = page.page.mouse, page.page.keyboard

    # --- the graph ---------------------------------------------------------------------------

    def build(
        self,
        types: dict,
        values: dict | None = None,
        links: list | None = None,
        offset: tuple[int, int] = (80, 140),
    ) -> None:
        """A new graph; `dot` is the name of GridDot Mask in it."""
        self.page.load(EMPTY)
        self.page.evaluate(GRAPH, [types, values or {}, links or [], offset])
        self.settle()
        self.page.evaluate(REMEMBER)

    def alone(self, text: str = "", picture: str | None = "example.png") -> None:
        """Load Image (unless picture is None) → GridDot Mask with these dots."""
        types, values, links = {"dot": [NODE, 480, 20]}, {"dot": {"dots": text}}, []
        if picture:
            types["load"] = ["LoadImage", 60, 100]
            values["load"] = {"image": picture}
            links = [["load", 0, "dot", "image"]]
        self.build(types, values, links)

    def running(self, text: str, source: list, values: dict, wire_image: bool) -> None:
        """A whole graph around GridDot Mask that saves the mask it used as a PNG."""
        types = {
            "vlm": ["VLMCLoader", 0, 0], "encode": ["VLMCEncode", 300, 0], "source": source,
            "dot": [NODE, 640, 20], "layer": ["VLMCHiddenLayerSelect", 1100, 0],
            "dump": ["TestTensorDump", 1100, 300], "mask": ["MaskToImage", 1100, 450],
            "save": ["SaveImage", 1100, 550],
        }  # fmt: skip
        links = [
            ["vlm", 0, "encode", "model"], ["source", 0, "encode", "images.image0"],
            ["encode", 0, "dot", "tokens"], ["dot", 0, "layer", "hidden_states"],
            ["layer", 0, "dump", "conditioning"], ["dot", 1, "mask", "mask"],
            ["mask", 0, "save", "images"],
        ]  # fmt: skip
        if wire_image:
            links.append(["source", 0, "dot", "image"])
        model = {"vlm": {"model": "VLM/tiny", "dtype": "float32"}, "encode": {"prompt": "a house"}}
        values = model | {"source": values, "dot": {"dots": text}}
        self.build(types, values, links, offset=(-300, 140))

    def settle(self) -> None:
        """Waits until the panel has looked around."""
        self.page.evaluate("() => new Promise(done => setTimeout(done, 900))")

    def until(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Waits until something is so, however busy the machine.

        Raises:
            TimeoutError: it is not so after that many seconds.
        """
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                raise TimeoutError(f"not so after {seconds} s; the dots are {self.texts()}")
            self.page.page.wait_for_timeout(50)

    def texts(self) -> list[str]:
        """What each GridDot Mask would save, by the widget's place in the node."""
        nodes = self.page.workflow()["nodes"]
        return [each["widgets_values"][0] for each in nodes if each["type"] == NODE]

    def saved(self) -> str:
        """The dots as the page would save them."""
        (text,) = self.texts()
        return text

    def queued(self) -> str:
        """The dots as the page would queue them."""
        (node,) = [x for x in self.page.api_prompt().values() if x["class_type"] == NODE]
        return node["inputs"]["dots"]

    @property
    def dots(self) -> list[dict[str, float]]:
        """The dots; what is saved and what is queued must be the same."""
        text = self.saved()
        assert text == self.queued()
        return json.loads(text)["dots"] if text else []

    def node_picture(self) -> Image.Image:
        """A picture of the node alone."""
        clip = self.page.evaluate(
            """() => {
                const {canvas, ds} = app.canvas, view = canvas.getBoundingClientRect()
                const [x, y] = made.dot.pos, [width, height] = made.dot.size
                return {
                    x: view.left + (x + ds.offset[0]) * ds.scale - 8,
                    y: view.top + (y - 30 + ds.offset[1]) * ds.scale - 8,
                    width: width * ds.scale + 16,
                    height: (height + 30) * ds.scale + 16,
                }
            }"""
        )
        return Image.open(io.BytesIO(self.page.page.screenshot(clip=clip))).convert("RGB")

    def undo_in_graph(self, key: str, then: str) -> None:
        """Presses a key of the graph's own undo, and waits for the dots that it brings back."""
        self.page.page.locator("#graph-canvas").focus()
        self.press(key)
        self.until(lambda: self.texts() == [then])
        self.until(lambda: self.page.evaluate(AT_REST))

    # --- the panel ---------------------------------------------------------------------------

    @property
    def stage(self) -> Any:
        return self.page.page.locator(".griddot:visible .griddot-stage")

    def status(self) -> str:
        return self.page.page.locator(".griddot:visible .griddot-status").inner_text()

    def field(self, name: str) -> Any:
        return self.page.page.locator(f'.griddot:visible input[aria-label^="{name} "]')

    def button(self, starts: str) -> Any:
        return self.page.page.locator(f'.griddot:visible button[aria-label^="{starts}"]')

    def box(self, aspect: float = 1.0) -> tuple[float, float, float, float]:
        """Left, top, width, height of the picture on the screen; aspect = width / height."""
        on = self.stage.bounding_box()
        width = min(on["width"], on["height"] * aspect)
        height = width / aspect
        left, top = on["x"] + (on["width"] - width) / 2, on["y"] + (on["height"] - height) / 2
        return left, top, width, height

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a place of the (square) picture is on the screen."""
        left, top, width, height = self.box()
        return left + x * width, top + y * height

    def click(self, x: float, y: float, **how: Any) -> None:
        self.mouse.click(*self.at(x, y), **how)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse.move(*self.at(*start))
        self.mouse.down()
        self.mouse.move(*self.at(*end), steps=4)
        self.mouse.up()

    def wheel(self, turns: int) -> None:
        for _ in range(abs(turns)):
            self.mouse.wheel(0, -120 if turns > 0 else 120)
            self.page.page.wait_for_timeout(60)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.keyboard.press(key)

    def module(self, script: str, argument: Any = None) -> Any:
        """Runs a function of (modules, argument) with web/griddot's modules in the page."""
        return self.page.evaluate(
            """async ([folder, script, argument]) => {
                const names = ['weights', 'picture', 'shapes', 'text', 'dots', 'keys']
                const loaded = await Promise.all(
                    names.map(name => import(`/extensions/${folder}/griddot/${name}.js`)))
                return eval(script)(Object.assign({}, ...loaded), argument)
            }""",
            [PACK_FOLDER, script, argument],
        )
