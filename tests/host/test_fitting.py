"""VLM Loader and the diffusion model: which model a new one shows, and what is said of a misfit."""

from __future__ import annotations

import json

import pytest
from browser import ComfyPage
from clip_graphs import clip
from graphs import node
from griddot_page import EMPTY, RENDERERS, settings
from pack_graphs import dump, loader, seen
from refusals import failed

# config.json is all that a list and a page need. In the order of the list; the last one is blind.
LISTED = {
    "VLM/Gemma-3-4B": {
        "model_type": "gemma3", "text_config": {"hidden_size": 2560, "num_hidden_layers": 34},
    },
    "VLM/Qwen2.5-VL-7B": {
        "model_type": "qwen2_5_vl", "hidden_size": 3584, "num_hidden_layers": 28,
    },
    "VLM/Qwen3-4B": {"model_type": "qwen3", "hidden_size": 2560, "num_hidden_layers": 36},
    "VLM/Qwen3-VL-4B-mine": {
        "model_type": "qwen3_vl", "text_config": {"hidden_size": 2560, "num_hidden_layers": 36},
    },
    "VLM/Qwen3-VL-8B-mine": {
        "model_type": "qwen3_vl", "text_config": {"hidden_size": 4096, "num_hidden_layers": 36},
    },
}  # fmt: skip
FIRST, SMALL, LARGE = "VLM/Gemma-3-4B", "VLM/Qwen3-VL-4B-mine", "VLM/Qwen3-VL-8B-mine"
QWEN_IMAGE = "VLM/Qwen2.5-VL-7B"
# A reader of a VLM and its loader, as a person adds and wires them.
ADD = """type => {
    const make = (type, x) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, 200]
        app.graph.add(node)
        return node
    }
    window.ours = { loader: make('VLMCLoader', 100), reader: make(type, 500) }
    window.widget = (node, name) => node.widgets.find(each => each.name === name)
}"""
WIRE = "() => { ours.loader.connect(0, ours.reader, 'model') }"
SHOWN = "() => widget(ours.loader, 'model').value"
# What the page does with a choice in a list.
PICK = """([node, name, value]) => {
    const picked = widget(ours[node], name)
    picked.value = value
    picked.callback?.(value, app.canvas, ours[node])
}"""


@pytest.fixture(scope="module")
def host(start_comfy, tmp_path_factory):
    models = tmp_path_factory.mktemp("fitting") / "models"
    for name, config in LISTED.items():
        (models / name).mkdir(parents=True)
        (models / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    host = start_comfy(fresh=True, models_folder=models)
    yield host
    host.stop()


@pytest.fixture(scope="module", params=RENDERERS)
def page(request, browser, host):
    opened = ComfyPage(browser, host, settings=settings(request.param))
    yield opened
    opened.close()


@pytest.fixture
def wired(page):
    """A new loader on a new VLM Encode."""
    page.messages.clear()
    page.load(EMPTY)
    page.evaluate(ADD, "VLMCEncode")
    page.evaluate(WIRE)
    yield page
    assert page.errors() == []


def test_the_server_says_which_model_suits_each_target(host):
    about = host.object_info("VLMCLoader")["input"]["required"]["model"][1]
    assert about["options"][: len(LISTED)] == list(LISTED)
    fits = about["vlmc_fits"]
    assert fits["z-image"] == fits["krea2"] == fits["flux2-klein-4b"] == SMALL
    assert fits["qwen-image-2.1"] == fits["flux2-klein-9b"] == LARGE
    assert fits["qwen-image"] == QWEN_IMAGE
    assert not {"flux1", "minimax-h3", "chat"} & set(fits)


@pytest.mark.parametrize("reader", ["VLMCEncode", "VLMCImagePrompt", "VLMCRewrite"])
def test_a_new_loader_follows_the_target(page, reader):
    page.load(EMPTY)
    page.evaluate(ADD, reader)
    assert page.evaluate(SHOWN) == SMALL
    page.evaluate(PICK, ["reader", "target", "qwen-image-2.1"])
    assert page.evaluate(SHOWN) == SMALL  # nothing wired yet
    page.evaluate(WIRE)
    assert page.evaluate(SHOWN) == LARGE
    page.evaluate(PICK, ["reader", "target", "minimax-h3"])  # none of that size is there
    assert page.evaluate(SHOWN) == LARGE
    page.evaluate(PICK, ["reader", "target", "qwen-image"])
    assert page.evaluate(SHOWN) == QWEN_IMAGE
    loading = next(n for n in page.api_prompt().values() if n["class_type"] == "VLMCLoader")
    assert loading["inputs"]["model"] == QWEN_IMAGE


def test_what_a_person_chose_stays(wired):
    wired.evaluate(PICK, ["loader", "model", SMALL])  # also where it is what stood there
    wired.evaluate(PICK, ["reader", "target", "qwen-image-2.1"])
    assert wired.evaluate(SHOWN) == SMALL


def test_a_workflow_and_a_copy_keep_what_they_name(wired):
    wired.evaluate(PICK, ["reader", "target", "qwen-image-2.1"])
    saved = wired.workflow()
    for named in (FIRST, SMALL, "VLM/gone"):
        for each in saved["nodes"]:
            if each["type"] == "VLMCLoader":
                each["widgets_values"][0] = named
                each.get("widgets_values_named", {})["model"] = named
        wired.load(saved)
        loaded = "() => app.graph.nodes.find(n => n.type === 'VLMCLoader').widgets[0].value"
        assert wired.evaluate(loaded) == named
        again = wired.evaluate(
            """() => {
                const find = type => app.graph.nodes.find(n => n.type === type)
                const copy = find('VLMCLoader').clone()
                app.graph.add(copy)
                copy.connect(0, find('VLMCEncode'), 'model')
                return copy.widgets[0].value
            }"""
        )
        assert again == named


def test_a_file_in_api_format_keeps_what_it_names(wired):
    prompt = {
        "1": node("VLMCEncode", model=["2", 0], prompt="a boat", target="qwen-image-2.1"),
        "2": loader(SMALL, dtype="auto"),
    }
    wired.evaluate("async p => { await app.loadApiJson(p, 'x') }", prompt)
    queued = wired.api_prompt()
    assert [n["inputs"]["model"] for n in queued.values() if "dtype" in n["inputs"]] == [SMALL]


@pytest.mark.usefixtures("qwen3vl", "public_vlm")
def test_a_line_names_a_model_that_fits(comfy):
    said = comfy.run(seen("a boat", None)).text("encode")
    assert "This VLM is 64 wide, Z-Image reads 2560 (Qwen3-4B). Choose VLM/" in said
    assert " on VLM Loader, or put a connector in between" in said
    right = comfy.run(seen("a boat", None, model="VLM/Qwen3-VL-4B-Instruct"))
    assert "wide" not in right.text("encode")


@pytest.mark.usefixtures("public_vlm")
def test_a_refusal_names_a_model_that_fits(comfy):
    """Words of one width, a picture of another."""
    prompt = {
        "vlm": loader("VLM/Qwen3-VL-4B-Instruct"), "clip": clip("qwen-image"),
        "image": node("VLMCImagePrompt", prompt="a boat", target="auto", clip=["clip", 0],
                      model=["vlm", 0], pictures=["last", 0]),
        "shown": node("EmptyImage", width=64, height=64, batch_size=1, color=1),
        "last": node("VLMCPicture", image=["shown", 0], strength=0.5, keep="all"),
        "dump": dump("image"),
    }  # fmt: skip
    text = failed(comfy, prompt, "image")
    assert "This VLM is 2560 wide, Qwen-Image reads 3584 (Qwen2.5-VL-7B)." in text
