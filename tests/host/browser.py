"""A headless Chromium on the page that ComfyUI serves: opens workflows and queues them there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comfy_host import ComfyHost
from comfy_result import PromptRejected, Result

HOW_TO = (
    "the browser tests need Chromium and playwright: apt install chromium (or set CHROMIUM to "
    "its path), pip install playwright"
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip
# What the page logs by itself on a fresh server without a network.
HARMLESS = (
    "Failed to load resource",
    "net::ERR_",
    "user.css",
    "WebGL",
    "GPU stall",
    "graph accessed before initialization",
    # Frontend 1.58 gives up on a server that a busy machine keeps from answering; what a test waits
    # for tells whether that mattered.
    "TimeoutError: Fetch timeout",
    # The page opens with a graph of its own, and asks how large the models are that it names; a
    # server without API nodes forbids that, and the page says so whenever it gets there.
    "https://huggingface.co/Comfy-Org/z_image_turbo/",
)
# Errors of the page's own: the exact message, and the function of the page it comes from. Each is
# provoked with native nodes alone in test_page_errors.py.
PAGES_OWN = (
    # Frontend 1.58: a frame after a node with growing inputs was removed, the page still asks its
    # wires of the graph that it is no longer in.
    (
        "NullGraphError: Attempted to access LGraph reference that was null or undefined.",
        "autogrowInputDisconnected",
    ),
)
OPEN = "() => window.app?.canvas?.graph && window.LiteGraph"


class BrowserMissing(Exception):
    """No Chromium or no playwright; the text says how to get them."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium (playwright's Browser), closed at the end.

    Raises:
        BrowserMissing: there is no Chromium, or no playwright.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BrowserMissing(HOW_TO) from error
    with sync_playwright() as playwright:
        found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
        path = found or playwright.chromium.executable_path
        if not path or not Path(path).exists():
            raise BrowserMissing(HOW_TO)
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class ComfyPage:
    """One tab with ComfyUI's page open.

    Args:
        browser: from `chromium()`.
        host: a running server.
        size: width and height of the window in pixels.
        settings: more ComfyUI settings, such as {"Comfy.VueNodes.Enabled": True}.
        density: pixels of a screenshot for each of the window's, along a side.
    """

    def __init__(
        self,
        browser: Any,
        host: ComfyHost,
        size: tuple[int, int] = (1600, 1000),
        settings: dict[str, Any] | None = None,
        density: int = 1,
    ):
        self.host = host
        self.messages: list[str] = []
        self.failed_requests: list[str] = []
        # Without this the first page shows its templates dialog, which blocks the mouse.
        host.post("/api/settings", {"Comfy.TutorialCompleted": True} | (settings or {}))
        self.page = browser.new_page(
            viewport={"width": size[0], "height": size[1]}, device_scale_factor=density
        )
        self.page.route("**/*", self._stay_local)
        self.page.on("console", self._on_console)
        self.page.on("response", self._on_response)
        self.page.on("pageerror", self._on_page_error)
        self.page.goto(host.url, wait_until="domcontentloaded", timeout=120_000)
        self.page.wait_for_function(OPEN, timeout=120_000)
        # The graph of the last session is loaded a little after the page is up.
        self.page.wait_for_load_state("networkidle", timeout=120_000)

    def close(self) -> None:
        """Closes the tab."""
        self.page.close()

    def _stay_local(self, route: Any) -> None:
        if route.request.url.startswith((self.host.url, "data:", "blob:")):
            route.continue_()
        else:
            route.abort()

    def _on_response(self, response: Any) -> None:
        if response.status >= 400:
            self.failed_requests.append(f"{response.status} {response.url}")

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.messages.append(message.text)

    def _on_page_error(self, error: Any) -> None:
        self.messages.append(f"pageerror: {error.stack or error}")

    def errors(self, ignore: tuple[str, ...] = HARMLESS) -> list[str]:
        """Console errors and uncaught exceptions so far, without those that are ignored."""
        kept = [text for text in self.messages if _pages_own(text) is None]
        return [text for text in kept if not any(part in text for part in ignore)]

    def own_errors(self) -> set[tuple[str, str]]:
        """Which of PAGES_OWN were seen so far."""
        return {own for own in map(_pages_own, self.messages) if own is not None}

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Runs JavaScript in the page: an expression, or a function of one argument."""
        return self.page.evaluate(script, argument)

    def load(self, workflow: dict[str, Any] | Path | str) -> None:
        """Opens a workflow: UI JSON, or the path of its file."""
        if not isinstance(workflow, dict):
            workflow = json.loads(Path(workflow).read_text(encoding="utf-8"))
        self.page.evaluate("async w => { await app.loadGraphData(w) }", workflow)
        self.page.wait_for_timeout(300)

    def add_from_search(self, name: str) -> None:
        """Adds a node or a blueprint the way people do: double click, type its name, Enter.

        A busy machine can miss a step, which nothing on the page tells; then all is done again,
        more slowly.
        """
        width, height = (self.page.viewport_size[side] for side in ("width", "height"))
        count = "() => app.rootGraph.nodes.length"
        before = self.page.evaluate(count)
        for patience in (1, 3, 8):
            self.page.mouse.dblclick(width * 0.55, height * 0.7)
            self.page.wait_for_timeout(700 * patience)
            self.page.keyboard.type(name)
            self.page.wait_for_timeout(1200 * patience)
            self.page.keyboard.press("Enter")
            self.page.wait_for_timeout(1200 * patience)
            # The new node hangs on the pointer until a click puts it down.
            self.page.mouse.click(width * 0.45, height * 0.5)
            self.page.wait_for_timeout(500 * patience)
            if self.page.evaluate(count) > before:
                return
            self.page.keyboard.press("Escape")
        raise TimeoutError(f"{name} did not come out of the page's search.")

    def missing_types(self) -> list[str]:
        """Types of the graph's nodes, subgraphs included, that the page does not know."""
        return self.page.evaluate(
            """() => {
                const missing = new Set()
                const visit = graph => {
                    for (const node of graph.nodes) {
                        const inner = node.subgraph
                        if (inner) visit(inner)
                        else if (!(node.type in LiteGraph.registered_node_types))
                            missing.add(node.type)
                    }
                }
                visit(app.rootGraph)
                return [...missing].sort()
            }"""
        )

    def node_types(self) -> list[str]:
        """Types of the root graph's nodes, sorted."""
        return sorted(self.page.evaluate("() => app.rootGraph.nodes.map(n => n.type)"))

    def workflow(self) -> dict[str, Any]:
        """The graph as UI JSON, as the page would save it.

        As text: what is undefined is left out there, and comes over the browser's wire as None.
        """
        return json.loads(self.page.evaluate("() => JSON.stringify(app.rootGraph.serialize())"))

    def api_prompt(self) -> dict[str, Any]:
        """The graph as API JSON, as the page would queue it."""
        text = "async () => JSON.stringify((await app.graphToPrompt()).output)"
        return json.loads(self.page.evaluate(text))

    def queue(self, timeout: float = 180) -> Result:
        """Queues the graph from the page and waits until the server is done with it.

        Raises:
            PromptRejected, PromptFailed, PromptInterrupted: as ComfyHost.run.
        """
        with self.page.expect_response(
            lambda r: r.url.endswith("/prompt") and r.request.method == "POST", timeout=180_000
        ) as waiting:
            self.page.evaluate("() => { app.queuePrompt(0) }")
        answer = waiting.value
        body = answer.json()
        if answer.status != 200:
            raise PromptRejected(answer.status, body)
        return self.host.wait(body["prompt_id"], timeout)

    def shown_text(self, node_id: int | str) -> str:
        """The line that a node of the open graph shows under its widgets, "" without one."""
        return self.page.evaluate(
            """id => {
                const node = app.canvas.graph.getNodeById(id)
                const widget = node?.widgets?.find(w => w.name === '$$node-text-preview')
                return widget ? String(widget.value ?? '') : ''
            }""",
            node_id,
        )

    def screenshot(self, path: Path | str, fit: bool = True) -> Path:
        """A picture of the window, .png or .jpg, with the whole graph in view."""
        if fit:
            self.page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
            self.page.wait_for_timeout(700)
        self.page.screenshot(path=str(path))
        return Path(path)


def _pages_own(text: str) -> tuple[str, str] | None:
    """The entry of PAGES_OWN that a message is, by its first line and its stack."""
    message, *stack = text.splitlines()
    for own in PAGES_OWN:
        if message == f"pageerror: {own[0]}" and any(f"at {own[1]} (" in line for line in stack):
            return own
    return None
