"""VLM Loader's `download`, against a Hub that the test plays: what is seen, and what connects."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_find import REPO
from comfy_host import PACK_FOLDER, ComfyHost
from comfy_result import PromptInterrupted
from conftest import TINY_NATIVE
from graphs import node
from pack_graphs import loader, picture, plain, seen
from refusals import change, refused
from test_memory import states_of

sys.path.append(str(REPO / "tests" / "vlm"))
from played_hub import REPO as HUB_REPO  # noqa: E402
from played_hub import as_json, folder_files, pin_of, playing  # noqa: E402

NAME = "VLM/Small-VLM"
MIB = 1024**2
# A pack beside ours, in the server's process: who is connected to.
WATCH = """
import sys
from pathlib import Path

FILE = Path(__file__).with_name("connected.txt")


def note(event, args):
    if event == "socket.connect":
        with FILE.open("a") as file:
            print(args[1], file=file)


FILE.write_text("")
sys.addaudithook(note)
NODE_CLASS_MAPPINGS = {}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A small VLM as its repository has it, and a file that takes a while."""
    from vlm.tiny.folder import write_tiny

    folder = write_tiny(tmp_path_factory.mktemp("tiny") / "tiny", "qwen3_vl", 64, 9)
    return folder_files(folder) | {"notes.txt": bytes(25 * MIB)}


@pytest.fixture(scope="module")
def hub(files):
    with playing(files) as played:
        yield played


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A models folder in which nothing lies."""
    models = tmp_path_factory.mktemp("fresh") / "models"
    models.mkdir()
    return models


@pytest.fixture(scope="module")
def host(start_comfy, hub, files, place, tmp_path_factory) -> Iterator[ComfyHost]:
    """A ComfyUI without models, with the pack as it is but for its pins, and what watches it."""
    packs = tmp_path_factory.mktemp("packs")
    ours, watch = packs / PACK_FOLDER, packs / "watch"
    for part in ("nodes", "vlm", "web", "locales"):
        shutil.copytree(REPO / part, ours / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("__init__.py", "pyproject.toml"):
        shutil.copy(REPO / part, ours / part)
    pins = json.dumps(as_json(pin_of(files, NAME)))
    (ours / "vlm" / "download" / "pins.json").write_text(pins, encoding="utf-8")
    watch.mkdir()
    (watch / "__init__.py").write_text(WATCH, encoding="utf-8")
    host = start_comfy(
        fresh=True,
        models_folder=place,
        packs={PACK_FOLDER: ours, "tiny_native": TINY_NATIVE, "watch": watch},
        env={"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"},
    )
    yield host
    host.stop()


def connected(host: ComfyHost) -> list[str]:
    """Addresses that the server's process connected to since it was last asked."""
    file = host.base / "custom_nodes" / "watch" / "connected.txt"
    found = file.read_text().splitlines()
    file.write_text("")
    return found


def model_input(host: ComfyHost) -> dict:
    return host.object_info("VLMCLoader")["input"]["required"]["model"][1]


def wish(download: bool) -> dict:
    prompt = seen("a red house", picture(0x336699), model=NAME)
    return change(prompt, "vlm", download=download)


def test_what_is_not_there_is_listed_and_not_fetched(host, hub):
    assert model_input(host)["options"] == [NAME]
    (label,) = model_input(host)["vlmc_labels"].values()
    assert label.startswith(f"{NAME} — not there yet: download 2") and " MB (tests)" in label
    for prompt in (wish(False), seen("as saved before", model=NAME)):
        text = " ".join(refused(host, prompt).details("vlm"))
        assert f"{NAME} is not there yet" in text and "Turn on `download` on VLM Loader" in text
        assert HUB_REPO in text
    error = refused(host, change(wish(True), "vlm", model="VLM/Somebody-elses"))
    assert "There is no VLM called" in " ".join(error.details("vlm"))
    error = refused(host, change(wish(True), "vlm", model=f"VLM/../{NAME}"))
    assert "There is no VLM called" in " ".join(error.details("vlm"))
    wired = wish(True) | {"yes": node("PrimitiveBoolean", value=True)}
    error = refused(host, change(wired, "vlm", download=["yes", 0]))
    assert "takes no wire" in " ".join(error.details("vlm"))
    assert hub.asked == [] and connected(host) == []


def test_the_switch_comes_from_the_person_alone(host, hub, browser):
    """It goes into what is queued, and neither into a workflow nor out of one."""
    from browser import ComfyPage

    page = ComfyPage(browser, host)
    try:
        page.load({"nodes": [], "links": [], "version": 0.4})
        told = page.evaluate(
            """name => {
                const node = LiteGraph.createNode('VLMCLoader')
                app.graph.add(node)
                const [model] = node.widgets
                const last = node.widgets.at(-1)
                const before = last.value
                last.value = true
                return [model.value, model.options.getOptionLabel(name), last.name, before]
            }""",
            NAME,
        )
        assert told == [NAME, model_input(host)["vlmc_labels"][NAME], "download", False]
        queued = page.api_prompt()
        assert [each["inputs"]["download"] for each in queued.values()] == [True]
        assert [each["inputs"]["model"] for each in queued.values()] == [NAME]
        saved = page.workflow()
        assert "true" not in json.dumps(saved["nodes"][0]["widgets_values"])
        # A stranger's file, by hand: on in every way that a file can say it.
        stranger = saved["nodes"][0]
        stranger["widgets_values"] = [NAME, "auto", "auto", 1024, "none", 0, True]
        stranger["widgets_values_named"] = {"download": True}
        inner = {**stranger, "id": 1, "inputs": [], "outputs": []}
        block = {
            "id": "3f0c1b9e-6a55-4a7c-9a55-0d2f4f1c7a11", "version": 1, "name": "block", "state":
            {"lastGroupId": 0, "lastNodeId": 1, "lastLinkId": 0, "lastRerouteId": 0},
            "revision": 0, "config": {}, "inputs": [], "outputs": [], "widgets": [],
            "inputNode": {"id": -10, "bounding": [0, 0, 10, 10]},
            "outputNode": {"id": -20, "bounding": [500, 0, 10, 10]},
            "nodes": [inner], "links": [], "groups": [], "extra": {},
        }  # fmt: skip
        whole = {
            "id": 9, "type": block["id"], "pos": [0, 400], "size": [200, 100], "flags": {},
            "order": 1, "mode": 0, "inputs": [], "outputs": [],
            "properties": {"proxyWidgets": [["1", "download"]]}, "widgets_values": [True],
        }  # fmt: skip
        page.load(saved | {"nodes": [stranger, whole], "definitions": {"subgraphs": [block]}})
        queued_now = page.api_prompt().values()
        assert [each["inputs"]["download"] for each in queued_now] == [False, False]
        # Wired to something that is on.
        yes = {
            "id": 20, "type": "PrimitiveBoolean", "pos": [0, 0], "size": [200, 60], "flags": {},
            "order": 0, "mode": 0, "inputs": [], "widgets_values": [True], "properties": {},
            "outputs": [{"name": "BOOLEAN", "type": "BOOLEAN", "links": [5]}],
        }  # fmt: skip
        switch = {"name": "download", "type": "BOOLEAN", "widget": {"name": "download"}, "link": 5}
        wired = stranger | {"inputs": [*stranger.get("inputs", []), switch]}
        slot = len(wired["inputs"]) - 1
        link = [5, 20, 0, wired["id"], slot, "BOOLEAN"]
        page.load(saved | {"nodes": [yes, wired], "links": [link]})
        (loading,) = [x for x in page.api_prompt().values() if x["class_type"] == "VLMCLoader"]
        assert loading["inputs"]["download"] is False
        page.evaluate("async prompt => { await app.loadApiJson(prompt, 'theirs') }", queued)
        assert [each["inputs"]["download"] for each in page.api_prompt().values()] == [False]
        assert page.errors() == []
    finally:
        page.close()
    assert hub.asked == []


def test_it_comes_stops_goes_on_and_is_used(host, hub, files, place):
    hub.stop_at["notes.txt"] = 22 * MIB
    running = host.queue(wish(True))
    hub.wait_until("notes.txt", 22 * MIB)
    while host.progressed(running, "vlm") < 20 * MIB:
        pass
    host.interrupt(running)
    with pytest.raises(PromptInterrupted):
        host.wait(running)
    (label,) = model_input(host)["vlmc_labels"].values()
    assert "files missing" in label or "not there yet" in label
    hub.go_on.set()
    hub.asked.clear()
    assert {address.split(",")[0] for address in connected(host)} == {"('127.0.0.1'"}
    result = host.run(wish(True))
    assert "MB were fetched first" in result.text("vlm")
    again = [range for method, path, range in hub.asked if method == "GET" and "notes" in path]
    assert len(again) == 1 and again[0] is not None
    connected(host)
    assert folder_files(place / NAME) == files
    import vlm

    want = vlm.load(place / NAME, dtype="float32")
    want = want.encode("a red house", [plain(0x336699)], target="z-image")
    assert (states_of(result) - want.layer(-8)).abs().max() < 1e-4
    # At once listed as what it is, for every page.
    assert model_input(host)["options"] == [NAME] and model_input(host)["vlmc_labels"] == {}


def test_what_is_there_connects_to_nobody(host, hub):
    """Load and encode, with the switch off, on, and in a prompt of before it."""
    hub.asked.clear()
    for text, more in (("off", {"download": False}), ("on", {"download": True}), ("before", {})):
        host.free()
        prompt = seen(text, picture(0x224466), model=NAME)
        host.run(prompt | {"vlm": loader(NAME, **more)})
    assert hub.asked == [] and connected(host) == []
