"""The shipped workflows as files: notes, downloads, layouts, thumbnails. No server is needed."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from comfy_find import REPO
from layouts import LEAST_CONTRAST, assert_apart, is_sampler
from PIL import Image
from workflow_tools import API, NAMES, STARTS, WORKFLOWS, nodes_in, read

from tools.cards import SIZE, card, cards

SUBGRAPHS = REPO / "subgraphs"
THUMBNAIL_BYTES = 80_000
PROMPT = "VLMCImagePrompt"
FILES = {
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "vae_name": "vae",
    "control_net_name": "controlnet",
    "model_name": "geometry_estimation",
    "connector": "vlm_connectors",
    "embedder": "vlm_connectors",
    "lora_name": "loras",
}
# Where the VLMs that the workflows name come from, and files that have no address of their own.
VLM_SOURCES = {
    "VLM/Qwen3-VL-4B-Instruct": "Qwen/Qwen3-VL-4B-Instruct",
    "VLM/Qwen2.5-VL-7B-Instruct": "Qwen/Qwen2.5-VL-7B-Instruct",
    "VLM/Qwen2VL-Flux": "Djrango/Qwen2vl-Flux",
    "VLM/Qwen2.5-Omni-3B": "Qwen/Qwen2.5-Omni-3B",
}
IN_REPOSITORIES = (
    "qwen2vl-flux.safetensors", "flux-controlnet-union.safetensors",
    "qwen3vl-zimage-projection.safetensors", "qwen2.5-omni-3b-alignnet.safetensors",
)  # fmt: skip
each_workflow = pytest.mark.parametrize("name", NAMES)


def test_there_are_workflows_and_each_has_its_files():
    assert len(NAMES) >= 4
    assert sorted(path.stem for path in API.glob("*.json")) == NAMES
    assert sorted(path.stem for path in WORKFLOWS.glob("*.jpg")) == NAMES


@each_workflow
def test_note_says_which_weights_go_where(name):
    nodes = read(WORKFLOWS / f"{name}.json")["nodes"]
    (note,) = [node for node in nodes if node["type"] == "MarkdownNote"]
    text = note["widgets_values"][0]
    for node in read(API / f"{name}.json").values():
        for widget, folder in FILES.items():
            if widget in node["inputs"]:
                if not isinstance(node["inputs"][widget], str):
                    continue
                inside, _, file = node["inputs"][widget].rpartition("/")
                line = next(x for x in text.splitlines() if file in x)
                assert f"**{f'{folder}/{inside}'.rstrip('/')}/**" in line
        if node["class_type"] == "VLMCLoader":
            assert f"**{node['inputs']['model']}/**" in text
            assert VLM_SOURCES[node["inputs"]["model"]] in text
    assert "Comfy-Org/" in text
    assert "## To play with" in text


def luminance(channels: tuple[float, ...]) -> float:
    """Of a colour of three channels from 0 to 1 (WCAG 2)."""
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return sum(part * one for part, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@each_workflow
def test_links_of_a_note_can_be_read(name):
    """Dark, the classic renderer writes them in #9e9eff, Nodes 2.0 in #8a8a8a; light, in #555555.

    What lies behind them is the node's colour; in a light theme half of the scale lighter (HSL).
    """
    notes = [n for n in read(WORKFLOWS / f"{name}.json")["nodes"] if n["type"] == "MarkdownNote"]
    assert notes
    for note in notes:
        behind = tuple(int(note["bgcolor"][i : i + 2], 16) / 255 for i in (1, 3, 5))
        hue, lightness, saturation = colorsys.rgb_to_hls(*behind)
        lighter = colorsys.hls_to_rgb(hue, lightness + 0.5, saturation)
        assert contrast((158 / 255, 158 / 255, 1), behind) >= LEAST_CONTRAST
        assert contrast((138 / 255,) * 3, behind) >= LEAST_CONTRAST
        assert contrast((85 / 255,) * 3, lighter) >= LEAST_CONTRAST


@each_workflow
def test_a_note_can_be_read(name):
    """No inline code, which Nodes 2.0 draws in a colour that is hardly one."""
    texts = [n["widgets_values"][0] for n in nodes_in(read(WORKFLOWS / f"{name}.json"))
             if n["type"] in ("MarkdownNote", "Note")]  # fmt: skip
    assert texts and not [text for text in texts if "`" in text]
    if name in STARTS:
        assert "\n**中文** " in texts[0] and "\n**日本語** " in texts[0]


@pytest.mark.parametrize("name", STARTS)
def test_app_mode_shows_picture_words_strength_and_result(name):
    """`linearData` is what ComfyUI's own templates have: [node, widget] in, nodes out."""
    workflow = read(WORKFLOWS / f"{name}.json")
    nodes = {node["id"]: node for node in workflow["nodes"]}
    shown = workflow["extra"]["linearData"]
    found = [(nodes[node]["type"], widget) for node, widget in shown["inputs"]]
    prompted = [("LoadImage", "image"), (PROMPT, "prompt"), ("VLMCPicture", "strength")]
    wanted = [one for one in prompted for node in workflow["nodes"] if node["type"] == one[0]]
    assert found == wanted and wanted
    ends = [node["id"] for node in workflow["nodes"] if node["type"] in ("SaveImage", "SaveVideo")]
    assert shown["outputs"] == ends and len(ends) == 1


@pytest.mark.parametrize(
    "file", [*WORKFLOWS.glob("*.json"), *SUBGRAPHS.glob("*.json")], ids=lambda file: file.stem
)
def test_a_manager_finds_the_pack_of_our_nodes(file):
    ours = [node["properties"] for node in nodes_in(read(file)) if node["type"].startswith("VLMC")]
    assert ours and all(each["cnr_id"] == "vlm-conditioning" and each["ver"] for each in ours)


@each_workflow
def test_loaders_offer_their_download(name):
    """ComfyUI's own dialog for missing models reads this."""
    workflow = read(WORKFLOWS / f"{name}.json")
    blocks = {graph["id"] for graph in workflow.get("definitions", {}).get("subgraphs", [])}
    for node in nodes_in(workflow):
        for widget, folder in FILES.items() if node["type"] not in blocks else ():
            file = (node.get("widgets_values_named") or {}).get(widget)
            if isinstance(file, str) and not file.endswith(IN_REPOSITORIES):
                offered = node["properties"]["models"]
                model = next(each for each in offered if each["name"] == file)
                assert (model["name"], model["directory"]) == (file, folder)
                assert model["url"].endswith(f"/{file.rpartition('/')[2]}")


@each_workflow
def test_nodes_lie_side_by_side(name):
    """No node covers another, also once it shows its line of text or its preview."""
    workflow = read(WORKFLOWS / f"{name}.json")
    blocks = workflow.get("definitions", {}).get("subgraphs", [])
    sample = {block["id"] for block in blocks if any(map(is_sampler, block["nodes"]))}
    for graph in blocks:
        assert_apart(graph["nodes"], sample)
    assert_apart(workflow["nodes"], sample, preview=240)


def test_each_thumbnail_is_its_card():
    assert sorted(cards()) == NAMES
    seen = []
    for name in NAMES:
        path = WORKFLOWS / f"{name}.jpg"
        assert path.stat().st_size <= THUMBNAIL_BYTES
        with Image.open(path) as shown:
            assert (shown.format, shown.size) == ("JPEG", SIZE)
            found = np.asarray(shown, dtype=float)
        drawn = np.asarray(card(name), dtype=float)
        assert np.abs(found - drawn).mean() < 2, f"python -m tools.cards draws {name} anew"
        assert all(np.abs(drawn - one).mean() > 1 for one in seen), name
        seen.append(drawn)


@pytest.mark.parametrize("name", STARTS)
def test_a_start_is_small_and_shows_picture_and_words(name):
    """At most nine nodes, at a zoom at which the page draws text (a node's is 14 units high)."""
    workflow = read(WORKFLOWS / f"{name}.json")
    assert len(workflow["nodes"]) <= 9
    scale, offset = (workflow["extra"]["ds"][key] for key in ("scale", "offset"))
    assert scale * 14 >= 8
    # Of a window of 1366 × 768, what ComfyUI's bars leave.
    left, top, right, bottom = 60, 80, 1366, 768
    first = [n for n in workflow["nodes"] if n["type"] in ("MarkdownNote", "LoadImage", PROMPT)]
    assert len(first) >= 2
    for node in first:
        (x, y), (width, height) = node["pos"], node["size"]
        x, y = (x + offset[0]) * scale, (y + offset[1]) * scale
        assert left <= x and x + width * scale <= right
        assert top <= y and y + height * scale <= bottom
