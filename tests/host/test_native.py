"""The harness itself, on ComfyUI's own nodes: what the other host tests build upon."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import graphs
import numpy as np
import pytest
from comfy_find import HOW_TO, REPO, find_comfyui
from comfy_host import ComfyHost, ServerFailed
from comfy_result import PromptFailed, PromptInterrupted, PromptRejected
from PIL import Image

TARGETS = {"z-image": graphs.z_image, "flux2-klein": graphs.klein, "flux1": graphs.flux1}
UI_GRAPH = """async () => {
  app.graph.clear()
  const add = (type, x, y, widgets) => {
    const node = LiteGraph.createNode(type)
    node.pos = [x, y]
    app.graph.add(node)
    for (const [name, value] of Object.entries(widgets ?? {}))
      node.widgets.find(w => w.name === name).value = value
    return node
  }
  const model = add('TestTinyZImage', 0, 0, { width: 64 })
  const clip = add('TestTinyClip', 0, 150, { target: 'z-image', width: 64, layers: 36 })
  const text = add('CLIPTextEncode', 300, 150, { text: 'a red house' })
  const zero = add('ConditioningZeroOut', 600, 400)
  const latent = add('EmptySD3LatentImage', 300, 400, { width: 64, height: 64 })
  const sampler = add('KSampler', 800, 0, {
    seed: 1, control_after_generate: 'fixed', steps: 2, cfg: 1, sampler_name: 'euler',
    scheduler: 'simple' })
  const vae = add('VAELoader', 800, 500, { vae_name: 'ae.safetensors' })
  const decode = add('VAEDecode', 1150, 0)
  const save = add('SaveImage', 1400, 0)
  clip.connect(0, text, 'clip')
  text.connect(0, zero, 'conditioning')
  model.connect(0, sampler, 'model')
  text.connect(0, sampler, 'positive')
  zero.connect(0, sampler, 'negative')
  latent.connect(0, sampler, 'latent_image')
  sampler.connect(0, decode, 'samples')
  vae.connect(0, decode, 'vae')
  decode.connect(0, save, 'images')
  return app.graph.serialize()
}"""


def pixels(png: bytes) -> np.ndarray:
    """[H, W, 3] int16 of a PNG's bytes."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.int16)


def test_the_server_has_native_and_test_nodes(comfy: ComfyHost):
    assert {"KSampler", "CLIPTextEncode"} <= set(comfy.object_info())
    assert "TestTinyZImage" in comfy.assert_pack_loaded("tiny_native")


@pytest.mark.parametrize("target", TARGETS)
def test_a_prompt_becomes_a_picture_that_depends_on_it(comfy: ComfyHost, target: str):
    first = comfy.run(TARGETS[target]("a red house"))
    other = comfy.run(TARGETS[target]("a boat at sea"))
    picture = pixels(first.images("save")[0])
    assert picture.shape == (64, 64, 3)
    assert picture.std() > 5
    assert np.abs(picture - pixels(other.images("save")[0])).mean() > 0.5
    assert "text" in other.executed and "model" in other.cached
    assert first.progress("sampler") == [(1, 2), (2, 2)]


@pytest.mark.parametrize("target", ["z-image", "flux2-klein"])
def test_the_public_file_names_run_unchanged(comfy: ComfyHost, target: str):
    result = comfy.run(graphs.public(target))
    assert pixels(result.images()[0]).std() > 5
    width = result.dump("dump")[0].tensor.shape[-1]
    assert width == {"z-image": 2560, "flux2-klein": 7680}[target]


def test_the_same_prompt_again_comes_from_the_cache(comfy: ComfyHost):
    prompt = graphs.z_image("twice")
    first = comfy.run(prompt)
    again = comfy.run(prompt)
    assert again.cached == set(prompt) and again.executed == []
    assert again.images() == first.images()


def test_a_dump_holds_the_tensor_and_the_options(comfy: ComfyHost):
    entry = comfy.run(graphs.z_image("dumped")).dump("dump")[0]
    assert tuple(entry.tensor.shape[::2]) == (1, 64)
    assert entry.keys == ["attention_mask", "pooled_output"]
    assert entry.option_tensors["attention_mask"].shape == entry.tensor.shape[:2]
    assert entry.options == {"pooled_output": None}


def test_a_rejected_prompt_says_which_node_and_input(comfy: ComfyHost):
    prompt = graphs.z_image()
    prompt["sampler"]["inputs"]["steps"] = 0
    del prompt["text"]["inputs"]["text"]
    with pytest.raises(PromptRejected) as caught:
        comfy.run(prompt)
    assert caught.value.status == 400
    assert set(caught.value.node_errors) == {"sampler", "text"}
    assert caught.value.details("text") == ["text"]


def test_a_failing_node_is_named(comfy: ComfyHost):
    prompt = graphs.z_image()
    prompt["model"]["inputs"]["width"] = 128
    with pytest.raises(PromptFailed) as caught:
        comfy.run(prompt)
    assert (caught.value.node, caught.value.kind) == ("sampler", "RuntimeError")
    assert "128" in caught.value.text


def test_an_interrupt_ends_the_run_and_the_next_one_works(comfy: ComfyHost):
    prompt = graphs.z_image("interrupted")
    prompt["sampler"]["inputs"]["steps"] = 10000
    prompt_id = comfy.queue(prompt)
    deadline = time.monotonic() + 180
    while not comfy.progressed(prompt_id, "sampler"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    comfy.interrupt(prompt_id)
    with pytest.raises(PromptInterrupted) as caught:
        comfy.wait(prompt_id)
    assert caught.value.node == "sampler"
    assert comfy.run(graphs.z_image("after it")).images()


def test_free_unloads_and_forgets(comfy: ComfyHost):
    prompt = graphs.z_image("freed")
    comfy.run(prompt)
    assert "Lumina2" in comfy.loaded_models()
    comfy.free()
    assert comfy.loaded_models() == []
    comfy.reset_module_calls()
    assert set(comfy.run(prompt).executed) == set(prompt)
    assert comfy.module_calls()["TransformerBlock"] == 36


def test_text_states_equal_those_of_the_qwen3vl_folder(comfy: ComfyHost, qwen3vl: Path):
    import torch
    from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

    text = "a red house, 红色的房子 🏠"
    native = comfy.run(graphs.z_image(text)).dump("dump")[0].tensor
    tokenizer = AutoTokenizer.from_pretrained(qwen3vl)
    prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
    model = Qwen3VLForConditionalGeneration.from_pretrained(qwen3vl, dtype=torch.float32).eval()
    entering = []
    model.model.language_model.layers[-1].register_forward_pre_hook(
        lambda _, args, kwargs: entering.append(args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True,
    )
    with torch.inference_mode():
        model(input_ids=ids)
    assert native.shape == entering[0].shape
    assert (native - entering[0]).abs().max() <= 1e-5 * entering[0].abs().max()


def test_arguments_reach_the_server_and_stop_ends_it(start_comfy):
    host = start_comfy("--cache-none", fresh=True)
    prompt = graphs.z_image()
    host.run(prompt)
    assert set(host.run(prompt).executed) == set(prompt)
    process = host.process
    host.stop()
    assert process.returncode is not None
    if sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)


def test_a_server_that_does_not_start_shows_its_log(checkout, tmp_path: Path):
    host = ComfyHost(checkout, tmp_path, ("--no-such-argument",))
    with pytest.raises(ServerFailed, match="no-such-argument"):
        host.start()


def test_without_comfyui_the_host_tests_are_skipped_and_counted(tmp_path: Path):
    drop = ("COMFYUI_PATH", "COMFYUI_PYTHON", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST")
    env = {k: v for k, v in os.environ.items() if k not in drop}
    env |= {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    one = "tests/host/test_native.py::test_the_server_has_native_and_test_nodes"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", one, "-q", "-p", "no:cacheprovider"],
        cwd=REPO, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if "1 skipped" not in done.stdout and REPO.parent.name == "custom_nodes":
        pytest.skip("this repository lies in a ComfyUI, which is then found without COMFYUI_PATH")
    assert "1 skipped" in done.stdout, done.stdout
    assert HOW_TO[:60] in done.stdout


def test_a_wrong_comfyui_path_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"main\.py"):
        find_comfyui()


def test_the_page_opens_a_workflow_and_queues_it(comfy: ComfyHost, open_page, tmp_path: Path):
    page = open_page(comfy)
    workflow = page.evaluate(UI_GRAPH)
    page.load(workflow)
    assert page.missing_types() == []
    assert len(page.node_types()) == 9
    result = page.queue()
    same = comfy.run(graphs.z_image("a red house"))
    assert np.array_equal(pixels(result.images()[0]), pixels(same.images()[0]))
    assert page.screenshot(tmp_path / "graph.png").stat().st_size > 10_000
    assert page.errors() == []


def test_the_page_reports_missing_types_and_finds_blueprints(comfy: ComfyHost, open_page):
    page = open_page(comfy)
    workflow = page.evaluate(UI_GRAPH)
    workflow["nodes"][0]["type"] = "NoSuchNode"
    page.load(workflow)
    assert page.missing_types() == ["NoSuchNode"]
    page.evaluate("() => app.graph.clear()")
    page.add_from_search("Image Channels")
    assert len(page.node_types()) == 1 and page.missing_types() == []
