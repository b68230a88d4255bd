"""From a fresh ComfyUI to the first queued picture: how often a person clicks, and what they add.

The files that a template names lie there, empty: what is queued waits behind another prompt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_host import ComfyHost
from conftest import default_packs
from graphs import node
from test_workflow_files import FILES
from test_workflows import NEWER
from workflow_tools import API, BARE, STARTS, WORKFLOWS, example_picture, read

pytestmark = pytest.mark.timeout(1800)

PACK = "ComfyUI-VLM-Conditioning"
MOST_CLICKS = 6
PATIENT = 120_000  # ms
WAIT = """
import time

import comfy.model_management as management


class Wait:
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "run", True, "tests"

    def run(self):
        while True:
            management.throw_exception_if_processing_interrupted()
            time.sleep(0.05)


NODE_CLASS_MAPPINGS = {"TestWait": Wait}
"""


def write_names(models: Path) -> None:
    """Files and folders of the names that the templates choose, with nothing in them."""
    for name in STARTS:
        for each in read(API / f"{name}.json").values():
            for key, value in each["inputs"].items():
                if key in FILES and isinstance(value, str):
                    file = models / FILES[key] / value
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.touch()
            if each["class_type"] == "VLMCLoader":
                config = models / each["inputs"]["model"] / "config.json"
                config.parent.mkdir(parents=True, exist_ok=True)
                config.write_text(json.dumps({"model_type": "qwen2_vl"}))


@pytest.fixture(scope="module")
def host(start_comfy, checkout, tmp_path_factory) -> Iterator[ComfyHost]:
    """A fresh ComfyUI whose worker is busy for as long as the tests run."""
    folder = tmp_path_factory.mktemp("start")
    write_names(folder / "models")
    (folder / "wait").mkdir()
    (folder / "wait" / "__init__.py").write_text(WAIT, encoding="utf-8")
    packs = default_packs() | {"wait": folder / "wait"}
    host = start_comfy(fresh=True, models_folder=folder / "models", packs=packs)
    example_picture(host, checkout, 64)
    host.post("/api/settings", BARE)  # of how it is drawn, nothing that a person has to click away
    host.queue({"wait": node("TestWait")})
    yield host
    host.stop()


class Person:
    """Clicks in the page, and counts."""

    def __init__(self, page: Any):
        self.page, self.clicks = page, 0

    def click(self, where: Any) -> None:
        """One click, on what can be seen and nothing covers."""
        where.click(timeout=PATIENT, no_wait_after=True)
        self.clicks += 1


def test_every_start_is_few_clicks_from_its_first_picture(host, browser):
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.route(
        "**/*", lambda each: each.continue_() if "127.0.0.1" in each.request.url else each.abort()
    )
    page.goto(host.url, wait_until="domcontentloaded", timeout=PATIENT)
    known = set(host.object_info())
    counted = {}
    try:
        for number, name in enumerate(STARTS):
            newer = next((NEWER[model][0] for model in NEWER if f"({model})" in name), None)
            if newer is None or newer in known:
                counted[name] = first_picture(host, page, name, opens_itself=number == 0)
    finally:
        page.close()
    assert len(counted) >= len(STARTS) - len(NEWER)
    assert {name: clicks for name, clicks in counted.items() if clicks > MOST_CLICKS} == {}


def first_picture(host: ComfyHost, page: Any, name: str, opens_itself: bool) -> int:
    """Opens a template and queues it; the clicks that it took.

    A fresh ComfyUI shows its templates by itself, once.
    """
    person, began = Person(page), time.monotonic()
    if not opens_itself:
        person.click(page.get_by_role("button", name="Templates", exact=True))
    person.click(page.get_by_text(PACK, exact=True).first)
    card = page.get_by_role("heading", name=name, exact=True)
    page.mouse.move(800, 450)  # scrolling shows more of them
    while not card.count():
        assert time.monotonic() - began < 120, f"{name} is not among the templates."
        page.mouse.wheel(0, 700)
        page.wait_for_timeout(100)
    person.click(card)
    workflow = read(WORKFLOWS / f"{name}.json")
    types = sorted(each["type"] for each in workflow["nodes"])
    page.wait_for_function(
        "want => JSON.stringify(app.rootGraph.nodes.map(n => n.type).sort()) === want",
        arg=json.dumps(types, separators=(",", ":")),
        timeout=PATIENT,
    )
    with page.expect_response(
        lambda r: r.url.endswith("/prompt") and r.request.method == "POST", timeout=PATIENT
    ) as queued:
        person.click(page.get_by_test_id("queue-button"))
    assert queued.value.status == 200, queued.value.text()
    # What was queued is the template: nothing was added, nothing was missing.
    sent = json.loads(queued.value.request.post_data)["prompt"]
    assert set(sent) == set(read(API / f"{name}.json")), name
    host.post("/queue", {"clear": True})
    return person.clicks
