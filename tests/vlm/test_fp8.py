"""fp8 files: both forms of scales, a plain cast, and what is said of the damaged ones."""

import json

import pytest
import torch
from model_files import assert_tells, renamed, write_single
from safetensors.torch import load_file, save_file

import vlm
from vlm.devices import multiplies
from vlm.running.host import Host
from vlm.weights import fp8

LARGEST = 448.0  # of e4m3
LAYER = "model.layers.1.mlp.up_proj"
FORMS = ("old", "new", "metadata", "plain")


def is_linear(name, tensor):
    return tensor.ndim == 2 and name.endswith(".weight") and "embed" not in name


def quantised(weights, form, dtype=torch.float8_e4m3fn):
    """Weights as ComfyUI's fp8 files have them, the dequantised ones, and the file's metadata."""
    stored, plain, layers = {}, {}, {}
    for name, weight in weights.items():
        if form == "plain":
            stored[name] = weight.to(dtype)
            plain[name] = stored[name].to(torch.bfloat16)
        elif not is_linear(name, weight):
            stored[name] = plain[name] = weight.to(torch.bfloat16)
        else:
            layer = name.removesuffix(".weight")
            scale = weight.abs().max() / LARGEST
            stored[name] = (weight / scale).to(dtype)
            plain[name] = (stored[name].float() * scale).to(torch.bfloat16)
            layers[layer] = {"format": str(dtype).removeprefix("torch.")}
            mark_layer(stored, layer, scale, layers[layer], form)
    if form == "old":
        stored["scaled_fp8"] = torch.empty(0, dtype=dtype)
    metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
    return stored, plain, metadata if form == "metadata" else {}


def mark_layer(stored, layer, scale, settings, form):
    if form == "old":
        stored[f"{layer}.scale_weight"] = scale.reshape(1)
        stored[f"{layer}.scale_input"] = torch.ones(1)
        return
    stored[f"{layer}.weight_scale"] = scale
    if form == "new":
        content = list(json.dumps(settings).encode())
        stored[f"{layer}.comfy_quant"] = torch.tensor(content, dtype=torch.uint8)


@pytest.fixture
def write(tiny_folder, tmp_path):
    """`write(form, change, family)`: an fp8 file, and one with the dequantised weights."""

    def make(form, change=lambda weights: None, family="qwen2_5_vl", dtype=torch.float8_e4m3fn):
        folder = tiny_folder(family, 2)
        weights = renamed(load_file(folder / "model.safetensors"), "comfyui")
        stored, plain, metadata = quantised(weights, form, dtype)
        change(stored)
        files = []
        for name, tensors in (("fp8", stored), ("plain", plain)):
            file = write_single(folder, tmp_path / f"{name}.safetensors")
            save_file(tensors, file, {"format": "pt"} | (metadata if name == "fp8" else {}))
            files.append(file)
        return *files, folder

    return make


def states(model, picture, k=-1):
    return model.encode("a red house, 红色的房子", [picture(64, 96)]).layer(k)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.slow
def test_it_is_the_dequantised_model(write, picture, family, form):
    file, plain, folder = write(form, family=family)
    kept = vlm.load(file, tokenizer=folder)
    whole = vlm.load(plain, dtype="bfloat16", tokenizer=folder)
    a, b = (states(model, picture) for model in (kept, whole))
    assert a.dtype == b.dtype == kept.backbone.dtype == torch.bfloat16
    assert torch.equal(a, b)  # the bound that is asked for is 1e-2 relative Frobenius
    text = kept.backbone.text
    assert text.layers[1].mlp.up_proj.weight.dtype == torch.float8_e4m3fn
    assert kept.backbone.visual.blocks[0].attn.qkv.weight.dtype == torch.float8_e4m3fn
    assert text.norm.weight.dtype == torch.bfloat16
    table = text.embed_tokens.weight.dtype
    assert table == (torch.float8_e4m3fn if form == "plain" else torch.bfloat16)
    sizes = [sum(w.nbytes for w in model.backbone.parameters()) for model in (kept, whole)]
    assert sizes[0] < 0.8 * sizes[1]


@pytest.mark.parametrize("form", FORMS)
def test_it_is_close_to_the_weights_it_came_from(write, tiny, picture, form):
    file, _, folder = write(form)
    model = vlm.load(file, tokenizer=folder, dtype="float32")
    got = states(model, picture)
    want = states(tiny("qwen2_5_vl", 2), picture)
    assert got.dtype == torch.float32
    relative = ((got - want).norm() / want.norm()).item()
    assert 0 < relative < 0.15  # e4m3 has three bits of mantissa


def test_a_scaled_embedding_table_and_e5m2(write, picture):
    def scale_table(stored):
        name = "model.embed_tokens"
        stored[f"{name}.weight"] = (stored[f"{name}.weight"].float() / 0.01).to(torch.float8_e5m2)
        stored[f"{name}.scale_weight"] = torch.tensor(0.01)

    file, _, folder = write("old", scale_table, dtype=torch.float8_e5m2)
    model = vlm.load(file, tokenizer=folder, dtype="float32")
    table = model.backbone.text.embed_tokens
    assert table.weight.dtype == torch.float8_e5m2
    want = table.weight[:5].float() * 0.01
    assert torch.allclose(table(torch.arange(5)), want)
    assert states(model, picture, 0).isfinite().all()


def test_float16_does_not_overflow(write, picture):
    """Values near 448 with a small scale: as float16 sums of them would not fit."""

    def widen(stored):
        stored[f"{LAYER}.weight"] = torch.full_like(stored[f"{LAYER}.weight"].float(), LARGEST).to(
            torch.float8_e4m3fn
        )
        stored[f"{LAYER}.scale_weight"] = torch.tensor([1e-4])

    file, _, folder = write("old", widen)
    model = vlm.load(file, tokenizer=folder, dtype="float16")
    layer = model.backbone.text.layers[1].mlp.up_proj
    hidden = torch.full((1, 3, layer.in_features), 100.0, dtype=torch.float16)
    out = layer(hidden)
    assert out.dtype == torch.float16
    assert torch.allclose(out.float(), torch.tensor(64 * 100 * LARGEST * 1e-4), rtol=2e-3)


def test_the_weight_stays_as_stored_when_the_model_moves(write, picture):
    file, _, folder = write("old")
    model = vlm.load(file, tokenizer=folder)
    before = states(model, picture)
    model.prefix_cache.clear()
    model.backbone.to("cpu")
    assert isinstance(model.backbone.text.layers[0].mlp.up_proj, torch.nn.Linear)
    assert torch.equal(states(model, picture), before)


# ---- bad ones


@pytest.mark.parametrize(
    ("form", "suffix"),
    [("old", "scale_weight"), ("new", "weight_scale"), ("metadata", "weight_scale")],
)
def test_a_scale_is_missing(write, form, suffix):
    file, _, folder = write(form, lambda stored: stored.pop(f"{LAYER}.{suffix}"))
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, f"{LAYER}.weight has no scale", "download")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_cannot_be(write, value):
    def damage(stored):
        stored[f"{LAYER}.scale_weight"] = torch.tensor([value])

    file, _, folder = write("old", damage)
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, f"{LAYER}.scale_weight", "positive")


def test_a_scale_per_row(write):
    def per_row(stored):
        stored[f"{LAYER}.scale_weight"] = torch.ones(stored[f"{LAYER}.weight"].shape[0], 1)

    file, _, folder = write("old", per_row)
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, LAYER, "scales", "Load CLIP")


@pytest.mark.parametrize(
    ("name", "what"),
    [("weight_scale_2", "nvfp4"), ("weight_scale_inv", "block-wise"), ("quant_map", "bitsand")],
)
def test_another_quantisation_by_its_tensors(write, name, what):
    def add(stored):
        stored[f"{LAYER}.{name}"] = torch.ones(2)

    file, _, folder = write("new", add)
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, LAYER, what, "Load CLIP")


@pytest.mark.parametrize("kind", ["mxfp8", "int8_tensorwise", None])
def test_another_quantisation_by_its_format(write, kind):
    def mark(stored):
        content = list(json.dumps({"format": kind}).encode())
        stored[f"{LAYER}.comfy_quant"] = torch.tensor(content, dtype=torch.uint8)

    file, _, folder = write("new", mark)
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, LAYER, str(kind), "Load CLIP")


def test_a_mark_that_is_not_json(write):
    def damage(stored):
        stored[f"{LAYER}.comfy_quant"] = torch.tensor([1, 2, 3], dtype=torch.uint8)

    file, _, folder = write("new", damage)
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, f"{LAYER}.comfy_quant", "Download")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"layers": []}'])
def test_metadata_that_cannot_be_read(text):
    with pytest.raises(ValueError, match="_quantization_metadata.*Download"):
        fp8.Quantisation("a file", [], {"_quantization_metadata": text})


class Elsewhere(Host):
    """Runs on a device that holds no fp8; meta gives no numbers at all."""

    device = torch.device("meta")


@pytest.mark.parametrize("form", ["new", "plain"])
def test_a_device_without_fp8_gets_the_dequantised_weights(write, picture, caplog, form):
    file, plain, folder = write(form)
    model = vlm.load(file, tokenizer=folder, host=Elsewhere())
    whole = vlm.load(plain, tokenizer=folder, dtype="bfloat16")
    assert {weight.dtype for weight in model.backbone.parameters()} == {torch.bfloat16}
    assert torch.equal(states(model, picture), states(whole, picture))
    (said,) = [record.getMessage() for record in caplog.records if "fp8" in record.getMessage()]
    assert "float8_e4m3fn weights, which meta cannot hold" in said and "to bfloat16" in said


def test_what_a_device_holds_is_tried():
    cpu, meta = torch.device("cpu"), torch.device("meta")
    for stored in fp8.DTYPES.values():
        assert multiplies(cpu, torch.float32, stored) and multiplies(cpu, torch.bfloat16, stored)
        assert not multiplies(meta, torch.float32, stored)
