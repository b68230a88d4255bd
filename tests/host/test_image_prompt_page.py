"""Image Prompt in the page: the chain grows, and what the mask editor saves is what counts."""

from __future__ import annotations

import io
import json
import urllib.request
import uuid
from collections.abc import Iterator

import pytest
from browser import ComfyPage
from griddot_page import EMPTY, GRAPH, RENDERERS, settings
from PIL import Image, ImageDraw

pytestmark = [pytest.mark.usefixtures("qwen3vl"), pytest.mark.timeout(1800)]

PAINTED = (64, 16, 111, 79)  # left, top, right, bottom, the last ones included
LINE = "picture 1: 48 x 64 pixels, the box of its mask, strength 1, keep all"


@pytest.fixture(scope="module", params=RENDERERS)
def page(request, browser, comfy) -> Iterator[ComfyPage]:
    """A page in each of the renderers."""
    opened = ComfyPage(browser, comfy, settings=settings(request.param))
    yield opened
    opened.close()
    comfy.post("/api/settings", settings("classic"))


def png(shown: Image.Image) -> bytes:
    file = io.BytesIO()
    shown.save(file, "PNG")
    return file.getvalue()


def upload(comfy, place: str, name: str, data: bytes, **fields: str) -> dict:
    """Posts a form with a picture to ComfyUI, as its page does."""
    mark = uuid.uuid4().hex
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = (
        f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    body = b"".join(parts) + head.encode() + data + f"\r\n--{mark}--\r\n".encode()
    kind = f"multipart/form-data; boundary={mark}"
    request = urllib.request.Request(
        f"{comfy.url}{place}", body, {"Content-Type": kind}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def painted(comfy) -> tuple[str, str]:
    """A picture without alpha as Load Image offers it, and the same after the mask editor."""
    shown = Image.new("RGB", (128, 96), "#557733")
    ImageDraw.Draw(shown).rectangle((70, 20, 110, 70), fill="#aa3311")
    plain = upload(comfy, "/upload/image", "page plain.png", png(shown))
    drawn = Image.new("RGBA", shown.size, (0, 0, 0, 255))
    ImageDraw.Draw(drawn).rectangle(PAINTED, fill=(0, 0, 0, 0))  # what is painted is transparent
    reference = json.dumps({"filename": plain["name"], "subfolder": "", "type": "input"})
    saved = upload(
        comfy, "/upload/mask", "clipspace-mask.png", png(drawn),
        original_ref=reference, type="input", subfolder="clipspace",
    )  # fmt: skip
    return plain["name"], f"{saved['subfolder']}/{saved['name']} [{saved['type']}]"


def build(page: ComfyPage, *pictures: str) -> dict[str, int]:
    """Load Image → Picture Reference, one behind the other, → Image Prompt; ids by name."""
    types = {
        "clip": ["TestTinyClip", 0, 0], "vlm": ["VLMCLoader", 0, 200],
        "prompt": ["VLMCImagePrompt", 900, 0], "dump": ["TestTensorDump", 1300, 0],
    }  # fmt: skip
    values = {
        "clip": {"target": "z-image"},
        "vlm": {"model": "LLM/Qwen-VL/tiny-qwen3-vl-64", "dtype": "float32"},
        "prompt": {"prompt": "a red house"},
    }
    links = [
        ["clip", 0, "prompt", "clip"], ["vlm", 0, "prompt", "model"],
        ["prompt", 0, "dump", "conditioning"],
    ]  # fmt: skip
    for number, name in enumerate(pictures):
        load, reference = f"load{number}", f"reference{number}"
        types |= {load: ["LoadImage", 300, 400 * number]}
        types |= {reference: ["VLMCPicture", 600, 400 * number]}
        values[load] = {"image": name}
        links += [[load, 0, reference, "image"], [load, 1, reference, "mask"]]
        if number:
            links.append([f"reference{number - 1}", 0, reference, "pictures"])
    links.append([f"reference{len(pictures) - 1}", 0, "prompt", "pictures"])
    page.host.free()  # a node that is remembered from another test says nothing
    page.load(EMPTY)
    page.evaluate(GRAPH, [types, values, links, (80, 140)])
    return page.evaluate(
        "() => Object.fromEntries(Object.entries(made).map(([k, n]) => [k, n.id]))"
    )


def test_the_chain_grows_by_wiring(page, painted):
    page.messages.clear()
    plain, _ = painted
    ids = build(page, plain)
    one = page.queue()
    assert "picture 1: " in one.text(ids["prompt"]) and "picture 2" not in one.text(ids["prompt"])
    for count in (2, 3):  # another one between the last and Image Prompt, as a person puts it there
        last, new = page.evaluate(
            """([load, y]) => {
                const prompt = app.graph.nodes.find(n => n.type === 'VLMCImagePrompt')
                const slot = prompt.inputs.findIndex(i => i.name === 'pictures')
                const last = prompt.getInputNode(slot)
                const node = LiteGraph.createNode('VLMCPicture')
                node.pos = [600, y]
                app.graph.add(node)
                app.graph.getNodeById(load).connect(0, node, 'image')
                last.connect(0, node, 'pictures')
                node.connect(0, prompt, 'pictures')
                return [last.id, node.id]
            }""",
            [ids["load0"], 400 * count],
        )
        result = page.queue()
        assert result.text(new).startswith(f"picture {count}: 128 x 96 pixels, strength 1")
        assert f"picture {count}: " in result.text(ids["prompt"])
        queued = page.api_prompt()
        assert queued[str(new)]["inputs"]["pictures"] == [str(last), 0]
    page.evaluate("id => { app.graph.getNodeById(id).mode = 4 }", new)  # bypass: out of the chain
    line = page.queue().text(ids["prompt"])
    assert "picture 2: " in line and "picture 3" not in line
    assert page.errors() == []


def test_what_the_mask_editor_saves_is_what_counts(page, painted):
    page.messages.clear()
    plain, edited = painted
    ids = build(page, plain)
    whole = page.queue()
    assert whole.text(ids["reference0"]).startswith("picture 1: 128 x 96 pixels, strength 1")
    # The mask editor writes the name of what it saved into Load Image.
    page.evaluate("name => { made.load0.widgets[0].value = name }", edited)
    crop = page.queue()
    assert crop.text(ids["reference0"]) == LINE
    assert not crop.dump(ids["dump"])[0].tensor.equal(whole.dump(ids["dump"])[0].tensor)
    page.evaluate(
        "() => { made.reference0.widgets.find(w => w.name === 'mask_use').value = 'weight' }"
    )
    weighed = page.queue()
    assert "128 x 96 pixels, weighed by its mask" in weighed.text(ids["reference0"])
    tensors = [each.dump(ids["dump"])[0].tensor for each in (whole, crop, weighed)]
    assert not tensors[2].equal(tensors[0]) and not tensors[2].equal(tensors[1])
    assert page.errors() == []
