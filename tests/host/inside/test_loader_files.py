"""Files in ComfyUI's naming on VLM Loader's way, and fp8 layers under ComfyUI's partial loading."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from hf_folder import write_folder
from safetensors.torch import load_file, save_file
from tiny_clips import weights_of

LAYERS = 4
TEXT = "a red house, 红色的房子 🏠"


@pytest.fixture(scope="module", params=["krea2", "qwen-image"])
def both(request, tmp_path_factory):
    """A file as ComfyUI saves the text encoder, a folder with the same weights, and the kind."""
    place = tmp_path_factory.mktemp("files")
    weights = weights_of(request.param, LAYERS)
    folder = write_folder(place / "folder", request.param, weights, LAYERS)
    file = place / f"{request.param}.safetensors"
    save_file(weights, file)
    shutil.copy(folder / "config.json", file.with_suffix(".json"))
    return file, folder, request.param


def states(model, picture):
    return model.encode(TEXT, images=[picture(200, 330)]).layers(list(range(LAYERS + 1)))


def test_a_native_file_is_read_as_its_folder(both, picture):
    from pack.nodes import folders
    from pack.vlm import load

    file, folder, _ = both
    tokenizer = folders.tokenizer_folder(file)
    assert tokenizer.name == "qwen25_tokenizer" and folders.tokenizer_folder(folder) is None
    model, want = load(file, dtype="float32", tokenizer=tokenizer), load(folder, dtype="float32")
    assert model.family is want.family
    assert torch.equal(states(model, picture), states(want, picture))


def test_native_names_tell_the_family():
    """The names of the real files, which ComfyUI itself recognises by them."""
    from pack.vlm.weights.tensor_names import find_model_type

    for kind, family in (("krea2", "qwen3_vl"), ("qwen-image", "qwen2_5_vl")):
        names = weights_of(kind, LAYERS)
        assert find_model_type(names) == family
    assert find_model_type(weights_of("z-image", 6)) is None


def scaled(file, out):
    """Writes a copy with fp8 linear layers and their scales, in the older form."""
    stored = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for name, weight in load_file(file).items():
        if weight.ndim == 2 and "embed" not in name:
            scale = weight.abs().max() / 448
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            stored[name.replace(".weight", ".scale_weight")] = scale.reshape(1)
        else:
            stored[name] = weight.to(torch.bfloat16)
    save_file(stored, out)
    config = json.loads(file.with_suffix(".json").read_text())
    out.with_suffix(".json").write_text(json.dumps(config))
    return out


def test_fp8_layers_left_behind_give_the_same_bits(both, picture, tmp_path):
    from pack.nodes import folders
    from pack.nodes.ahead import Ahead
    from pack.nodes.casting import make_castable
    from pack.vlm import load
    from pack.vlm.weights.fp8 import ScaledLinear

    file = scaled(both[0], tmp_path / "scaled.safetensors")
    model = load(file, tokenizer=folders.tokenizer_folder(both[0]))
    want = states(model, picture)
    assert want.dtype == torch.bfloat16
    text = model.backbone.parts["text"]
    assert make_castable(text, Ahead())
    behind = [layer for layer in text.modules() if isinstance(layer, ScaledLinear)]
    assert len(behind) == 7 * LAYERS
    for layer in behind:
        layer.comfy_cast_weights = True
    model.prefix_cache.clear()
    assert torch.equal(states(model, picture), want)
    assert {layer.weight.dtype for layer in behind} == {torch.float8_e4m3fn}
