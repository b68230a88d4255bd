"""The shipped workflows in a ComfyUI: listed, opened in its page, queued."""

from __future__ import annotations

import shutil
import subprocess
import sys
from urllib.parse import quote

import pytest
from comfy_find import REPO
from comfy_host import PACK_FOLDER
from comfy_result import Result
from graphs import node as api_node
from layouts import faults
from pack_graphs import dump
from PIL import Image
from snapshot import assert_same_as_file, updating
from sound_file import write_sound
from workflow_tools import (
    API,
    BARE,
    NAMES,
    WORKFLOWS,
    example_picture,
    groups,
    make_small,
    picture,
    read,
    small,
)

from tools.cards import model_of

# A model that a ComfyUI may not have: a native node that came with it, and the first that has it.
NEWER = {
    "Qwen-Image 2.1": ("TextEncodeQwenImage21", "0.37"),
    "MiniMax H3": ("EmptyMiniMaxH3LatentAV", "0.33"),
}
PICTURES = {
    "z-image-layer-comparison": 4,
    "z-image-picture-variation": 4,
    "z-image-rewrite-json": 3,
}
# Native encoders make what is sampled, of words that the VLM wrote: there is nothing to check.
WORDS_ALONE = {
    "z-image-rewrite-json": "12 + 12 + 12 tokens written",
    "z-image-sound-described": " tokens written, behind ",
}
# No ComfyUI that was seen loads FLUX 3: its workflows end in a file.
WITHOUT_MODEL = ("flux3-klein-words", "flux3-klein-picture-experiment")
PREVIEWS = "Comfy.Execution.PreviewMethod"


@pytest.fixture(scope="module")
def host(public_vlm, flux_connectors, comfy, checkout, models):
    """A server with the files that the workflows name."""
    # Pictures of the graph show the bundled example; everything else is faster with a small one.
    example_picture(comfy, checkout, 768 if updating() else 128)
    save_first(comfy)
    example_video(comfy)
    write_sound(comfy.base / "input" / "example.wav", 22050)
    yield comfy
    shutil.rmtree(models / "vlm_stats", ignore_errors=True)


def save_first(comfy):
    """The file that z-image-load-conditioning names, made as its note says."""
    prompt = small(read(API / "z-image-save-conditioning.json"))
    # Another prompt than the workflow's: its own test must not find everything in the cache.
    next(x for x in prompt.values() if "value" in x["inputs"])["inputs"]["value"] = "a lighthouse"
    comfy.run(prompt)


def example_video(comfy):
    """Puts the video that flux1-x2i-video loads into input/: four seconds, small."""
    frames = api_node("EmptyImage", width=64, height=64, batch_size=8, color=0x336699)
    made = comfy.run(
        {
            "frames": frames,
            "video": api_node("CreateVideo", images=["frames", 0], fps=2.0),
            "save": api_node(
                "SaveVideo", video=["video", 0], filename_prefix="example", format="mp4",
                codec="h264",
            ),
        }
    )  # fmt: skip
    (shown,) = made.outputs["save"]["images"]
    (comfy.base / "input" / "example.mp4").write_bytes(comfy.view(shown))


@pytest.fixture(scope="module")
def page(browser, host):
    from browser import ComfyPage

    opened = ComfyPage(browser, host, settings=BARE | {PREVIEWS: "latent2rgb"})
    yield opened
    opened.close()
    host.post("/api/settings", {PREVIEWS: "default"})


@pytest.fixture(scope="module", params=NAMES)
def flow(request):
    """A workflow's name. What one test of it loaded, ComfyUI still holds for the next one of it."""
    return request.param


def wait_for_model(host, name: str) -> None:
    """Skips where this ComfyUI has not the workflow's model."""
    for model, (node, version) in NEWER.items():
        if model == model_of(name)[0] and not host.get(f"/object_info/{node}"):
            pytest.skip(f"{name} waits for a ComfyUI that has {model}: {version} or newer")


def is_shown(found: bytes) -> bool:
    """Whether a result is a PNG or an MP4."""
    return found.startswith(b"\x89PNG") or found[4:8] == b"ftyp"


def lines(result: Result) -> list[str]:
    """What our nodes said."""
    return [text for node in result.outputs for text in [result.text(node)] if text]


def test_template_browser_lists_them(host):
    assert sorted(host.get("/api/workflow_templates")[PACK_FOLDER]) == NAMES
    for name in NAMES:
        base = f"/api/workflow_templates/{PACK_FOLDER}/{quote(name)}"
        assert host.get(f"{base}.json") == read(WORKFLOWS / f"{name}.json")
        assert host.request(f"{base}.jpg") == (WORKFLOWS / f"{name}.jpg").read_bytes()


def test_every_node_of_the_pack_is_used(host):
    used = {node["class_type"] for name in NAMES for node in read(API / f"{name}.json").values()}
    assert not set(host.assert_pack_loaded()) - used


def test_recommended_settings(host):
    """The Qwen3-VL × Z-Image research: layer -8, text tokens only, global, alpha 0.3."""
    prompt = small(read(API / "z-image-picture-style.json"))
    # A node says something only when it runs, so nothing of this may be cached.
    next(x for x in prompt.values() if "value" in x["inputs"])["inputs"]["value"] = "a dog"
    said = "\n".join(lines(host.run(prompt)))
    assert "layer 21 of 28" in said  # -8 of the small model's 29 layers
    assert "global, std" in said
    assert "interpolate, alpha 0.3" in said
    kept = next(line for line in said.splitlines() if "tokens kept" in line)
    assert "image" not in kept and "vision_marker" not in kept


def test_an_edit_reads_what_the_native_node_reads(host):
    """qwen-image-edit-rewrite against Text Encode Qwen Image Edit, for the same instruction."""
    prompt = read(API / "qwen-image-edit-rewrite.json")
    ids = {node["_meta"]["title"]: key for key, node in prompt.items()}
    sampler = prompt[ids["KSampler"]]["inputs"]
    reads = {"clip": "Load CLIP", "vae": "Load VAE", "image": "Scale to 1 megapixel"}
    native = {name: [ids[title], 0] for name, title in reads.items()}
    words = "the figure as an old tin toy; the meadow and the sky stay"
    prompt[ids["VLM Encode (the instruction)"]]["inputs"]["prompt"] = words
    for side, text in (("positive", words), ("negative", "")):
        prompt[side] = api_node("TextEncodeQwenImageEdit", prompt=text, **native)
        prompt |= {f"native_{side}": dump(side), f"our_{side}": dump(sampler[side][0])}
    for title in ("Save Image", "The instruction"):  # nothing is written and nothing sampled
        del prompt[ids[title]]
    result = host.run(prompt)
    for side in ("positive", "negative"):
        (ours,), (theirs,) = result.dump(f"our_{side}"), result.dump(f"native_{side}")
        assert ours.tensor.shape == theirs.tensor.shape
        largest = theirs.tensor.abs().max()
        assert (ours.tensor - theirs.tensor).abs().max() <= 1e-4 * largest
        assert "reference_latents" in ours.keys and "reference_latents" in theirs.keys


def test_opens_and_queues_in_the_page(host, page, flow):
    """What the page makes of it is its API file, and it ends in what a person wants of it."""
    page.messages.clear()
    workflow = read(WORKFLOWS / f"{flow}.json")
    page.load(workflow)
    page.page.wait_for_timeout(500)
    missing = page.missing_types()
    if missing and not any(kind.startswith("VLMC") for kind in missing):
        wait_for_model(host, flow)
    assert missing == []
    assert page.node_types() == sorted(node["type"] for node in workflow["nodes"])
    assert "MarkdownNote" in page.node_types()
    exported = page.api_prompt()
    for node in exported.values():  # frontend 1.58 adds the pack that a node is of
        node["_meta"] = {"title": node["_meta"]["title"]}
    assert_same_as_file(exported, API / f"{flow}.json")
    wait_for_model(host, flow)
    make_small(page)
    result = page.queue()
    assert faults(page) == []
    pictures = result.images()
    assert len(pictures) == PICTURES.get(flow, 1)
    assert all(is_shown(found) for found in pictures)
    assert page.errors() == []
    if flow in WORDS_ALONE:  # this VLM is so sure of its words that all answers are one
        assert any(WORDS_ALONE[flow] in line for line in lines(result)), lines(result)
        return
    assert len(set(pictures)) == len(pictures)
    if flow in WITHOUT_MODEL:
        assert any(line.startswith("saved as ") and flow in line for line in lines(result))
        return
    (check,) = [line for line in lines(result) if line.startswith("fits ")]
    assert check.startswith(f"fits {model_of(flow)[0].removesuffix(' klein')}")


def test_app_mode_lists_picture_words_and_strength(page):
    """The classic renderer draws names on its canvas, so these texts are app mode's."""
    page.load(read(WORKFLOWS / "Prompt with a picture (Z-Image).json"))
    toggle = "async () => { await app.extensionManager.command.execute('Comfy.ToggleLinear') }"
    page.evaluate(toggle)
    try:
        for name in ("image", "prompt", "strength"):
            shown = page.page.get_by_text(name, exact=True).locator("visible=true")  # not the note
            shown.first.wait_for()
    finally:
        page.evaluate(toggle)


def test_picture_of_the_readme(host, browser):
    """UPDATE_SNAPSHOTS=1 draws it, with two pixels to each of the page's."""
    from browser import ComfyPage

    shown = REPO / "docs" / "graph.png"
    if updating():
        workflow = read(WORKFLOWS / "Prompt with a picture (Z-Image).json")
        page = ComfyPage(browser, host, settings=BARE, density=2)
        page.load(workflow)
        page.page.wait_for_timeout(1000)
        picture(page, groups(workflow), 1000).save(shown, optimize=True)
        page.close()
    with Image.open(shown) as found:
        assert found.format == "PNG" and found.width == 2000


def test_sweep_script_runs_the_vlm_once(host, tmp_path):
    """Two values of alpha times two layers: one pass over the VLM, four pictures."""
    cat = tmp_path / "sweep cat.png"
    Image.new("RGB", (96, 64), "#cc8844").save(cat)
    command = [
        sys.executable, str(API / "sweep.py"), "z-image-picture-style.json", "--server", host.url,
        "--alpha", "0.2,0.4", "--layers", "-2,-8", "--out", str(tmp_path / "out"),
        "--prompt", "a red house on a hill", "--image", str(cat),
        "--set", "EmptySD3LatentImage.width=64", "--set", "EmptySD3LatentImage.height=64",
    ]  # fmt: skip
    host.reset_module_calls()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 made" in done.stdout
    made = [path.read_bytes() for path in sorted((tmp_path / "out").glob("z-*.png"))]
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width > 2 * 64 and sheet.height > 2 * 64
    assert "alpha 0.4" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert len(made) == len(set(made)) == 4
    # Layer -2 of the small model's 29 is what enters the last of its 28 decoder layers.
    assert host.module_calls("DecoderLayer") == 27
    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "0 of 4 made" in again.stdout
    # Nothing else there to come back to: sampled again, but not encoded.
    shutil.rmtree(tmp_path / "out")
    subprocess.run([*command, "--set", "KSampler.seed=5"], check=True, timeout=300)
    assert host.module_calls("DecoderLayer") == 27
