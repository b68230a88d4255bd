"""LAP Pool in a real ComfyUI: with weights of both layouts, without any, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from graphs import node
from pack_graphs import TINY, dump, loader, picture, plain, sampled, seen, through_filter
from refusals import change, failed, refused
from safetensors.torch import save_file
from tiny_connectors import CONNECTOR

import vlm
from vlm.connectors.lap_blocks import LAP, TXTFUSION, UNIFUSION, Origin, Sizes

EVERY_THIRD = tuple(range(2, 36, 3))
OURS, KREA2, NARROW = "lap/unifusion.safetensors", "lap/krea2.safetensors", "lap/narrow.safetensors"
TEXT = "a pooled house"


def random_lap(layout: str, width: int = 64, **origin) -> LAP:
    lap = LAP(Sizes(layout, width, 12, 4, 4, 2 * width), Origin(**origin)).requires_grad_(False)
    noise = torch.Generator().manual_seed(0)
    for weight in lap.parameters():
        weight.copy_(torch.randn(weight.shape, generator=noise) / weight.shape[-1] ** 0.5)
    return lap


@pytest.fixture(scope="module")
def host(flux_connectors, comfy):
    """A server with LAP weights beside the connectors."""
    folder = flux_connectors / "vlm_connectors" / "lap"
    folder.mkdir(exist_ok=True)
    ours = random_lap(UNIFUSION, vlm="tiny", layers=EVERY_THIRD, target="z-image")
    vlm.save_lap(ours, folder.parent / OURS)
    narrow = random_lap(UNIFUSION, 32, vlm="another VLM", layers=EVERY_THIRD)
    vlm.save_lap(narrow, folder.parent / NARROW)
    weights = random_lap(TXTFUSION).state_dict()
    whole = {f"model.diffusion_model.txtfusion.{name}": value for name, value in weights.items()}
    save_file(whole | {"model.diffusion_model.first.weight": torch.ones(2)}, folder.parent / KREA2)
    for name in (OURS, NARROW, KREA2):
        comfy.wait_for_option("VLMCConnectorLoader", "connector", name)
    return comfy


@pytest.fixture(scope="module")
def states(host, models):
    """The library's hidden states of the same prompt."""
    model = vlm.load(models / TINY, dtype="float32")
    return model.encode(TEXT, [plain(0x3366AA)], target="z-image", depth=-1)


def pooled(weights: str | None = None, encode: str = "encode", **inputs) -> dict:
    """VLM Loader → VLM Encode → LAP Pool → dump."""
    prompt = seen(TEXT, picture())
    del prompt["layer"]
    if weights is not None:
        prompt["weights"] = node("VLMCConnectorLoader", connector=weights)
        inputs["connector"] = ["weights", 0]
    inputs = {"layers": "auto", "strengths": ""} | inputs
    prompt["lap"] = node("VLMCLAPPool", hidden_states=[encode, 0], **inputs)
    prompt["dump"] = dump("lap")
    return prompt


def near(a, b):
    return a.shape == b.shape and (a - b).abs().max() <= 1e-4 * b.abs().max()


def module(host_models, name) -> LAP:
    return vlm.load_connector(host_models / "vlm_connectors" / name).module


@pytest.mark.parametrize("name", [OURS, KREA2])
@pytest.mark.parametrize("refiner", [True, False])
def test_with_weights(host, models, states, name, refiner):
    result = host.run(pooled(name, strengths="2:0, 20:0.5", refiner=refiner))
    (entry,) = result.dump("dump")
    lap = module(models, name)
    expected = vlm.lap_pool(states, lap, strengths="2:0, 20:0.5", refiner=refiner)
    assert near(entry.tensor, expected.states)
    assert entry.options["vlm_tokens"] == expected.token_map
    line = result.text("lap")
    assert line.startswith(f"{lap.title} of 2 × 0, 5, 8, 11, 14, 17, 20 × 0.5, 23")
    assert f"refiner {'on' if refiner else 'off'}, {states.n} tokens, 64 wide" in line
    assert ("for inspection" in line) == (name == KREA2)
    assert "layers run" in line or "held" in line


def test_without_weights_it_says_so(host, states):
    result = host.run(pooled(layers="2,5,-1", strengths="5:3"))
    (entry,) = result.dump("dump")
    stack = states.layers([2, 5, -1])
    assert near(entry.tensor, (stack[:, 0] + 3 * stack[:, 1] + stack[:, 2]) / 5)
    said = result.text("lap")
    assert said.startswith("no LAP weights: weighted mean of the layers 2, 5 × 3, 36, ")


@pytest.mark.parametrize("name", [None, OURS, KREA2], ids=["mean", "ours", "krea2"])
def test_to_a_picture(host, name):
    result = host.run(sampled(pooled(name), "lap"))
    assert result.images("save")[0].startswith(b"\x89PNG")


def test_deeper_layers_run_once(host):
    """The target needs layer -8 of 37, the pool layer 35: the rest runs, and then is held."""
    prompt = pooled(strengths="8:0.5")
    prompt["encode"]["inputs"]["prompt"] = "a house nobody has seen"
    assert "6 layers run" in host.run(prompt).text("lap")
    assert ", held, " in host.run(change(prompt, "lap", strengths="8:0.25")).text("lap")


def test_after_a_filter(host, models, states):
    prompt = pooled(OURS, encode="filter")
    prompt["filter"] = node("VLMCTokenFilter", tokens=["encode", 0], keep="text")
    (entry,) = host.run(prompt).dump("dump")
    kept = vlm.filter_tokens(states, keep="text")
    assert near(entry.tensor, vlm.lap_pool(kept, module(models, OURS)).states)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"layers": "2:0.5, 5:1"}, "write weights into strengths"),
        ({"layers": "first"}, "'first' is no choice of layers"),
        ({"strengths": "2"}, "has no weight"),
        ({"strengths": "2:1, 2:0"}, "names a layer twice"),
    ],
)
def test_widgets_are_checked_when_queued(host, inputs, message):
    said = refused(host, pooled(**inputs)).details("lap")
    assert any(message in text for text in said)


@pytest.mark.parametrize(
    ("weights", "inputs", "message"),
    [
        (KREA2, {"layers": "2,5,8"}, "pools 12 layers, these are 3: 2, 5, 8."),
        (NARROW, {}, "reads 32 dimensions, these hidden states have 64. It was made for another"),
        (CONNECTOR, {}, "needs LAP weights, connector.pt is a Qwen2VL-Flux connector"),
        (None, {"strengths": "4:1"}, "strengths names layer 4, which is not pooled"),
        (None, {"layers": "2,5", "strengths": "2:0, 5:0"}, "add up to 0"),
        (None, {"layers": "99"}, "Layer 99 does not exist"),
    ],
)
def test_misfits_are_said(host, weights, inputs, message):
    assert message in failed(host, pooled(weights, **inputs), "lap")


def test_a_shallower_vlm(host):
    prompt = pooled(OURS)
    prompt["vlm"] = loader("VLM/Qwen2.5-VL-7B-Instruct")  # four decoder layers
    said = failed(host, change(prompt, "encode", target="chat"), "lap")
    assert "reads layer 35, this VLM has the layers 0 to 4. It was made for tiny" in said


def test_wrong_links(host):
    prompt = change(pooled(), "lap", hidden_states=["filter", 0])
    prompt["filter"] = through_filter("words")
    prompt["words"] = node("TestTinyConditioning", width=64, tokens=4, pooled=0, name="words")
    said = failed(host, prompt, "lap", "TypeError")
    assert "hidden_states on LAP Pool needs hidden states, this is CONDITIONING" in said


def test_connector_apply_takes_lap_weights_too(host, states, models):
    prompt = pooled(OURS)
    prompt["lap"] = node("VLMCConnectorApply", tokens=["encode", 0], connector=["weights", 0])
    (entry,) = host.run(prompt).dump("dump")
    assert near(entry.tensor, vlm.lap_pool(states, module(models, OURS)).states)
