"""4 and 8 bits through bitsandbytes: run where it is installed, explained where it is not."""

import importlib.util

import pytest
import torch
from model_files import assert_tells, write_single

import vlm
from vlm.weights import quantized

INSTALLED = all(importlib.util.find_spec(name) for name in ("bitsandbytes", "accelerate"))


needs_bitsandbytes = pytest.mark.skipif(not INSTALLED, reason="needs bitsandbytes and accelerate")


@needs_bitsandbytes
@pytest.mark.parametrize("quantize", ["8-bit", "4-bit"])
def test_the_language_model_is_quantised_and_close(tiny_folder, tiny, picture, err, quantize):
    model = vlm.load(tiny_folder("qwen3_vl", 2), dtype="float32", quantize=quantize)
    kinds = {type(layer).__name__ for layer in model.backbone.text.modules()}
    assert kinds & {"Linear8bitLt", "Linear4bit"} and "Linear" not in kinds
    assert "Linear" in {type(layer).__name__ for layer in model.backbone.visual.modules()}
    both = (model, tiny("qwen3_vl", 2))
    states, want = (one.encode("a red house", [picture(64, 64)]).layer(-1) for one in both)
    assert states.dtype == torch.float32
    assert 0 < err(states, want) < (0.2 if quantize == "8-bit" else 0.6)


@needs_bitsandbytes
@pytest.mark.parametrize("run_first", [False, True])
def test_all_of_an_8_bit_layer_moves_with_the_model(tiny_folder, run_first):
    """A host moves the language model as a whole; nothing may stay on the other device."""
    model = vlm.load(tiny_folder("qwen3_vl", 2), dtype="float32", quantize="8-bit")
    if run_first:
        model.encode("a").layer(-1)
    layer = model.backbone.text.layers[0].mlp.up_proj
    assert type(layer).__module__.startswith("bitsandbytes")
    keeps = layer.state if run_first else layer.weight
    before = {name: getattr(keeps, name).clone() for name in ("CB", "SCB")}
    old = keeps.SCB
    model.backbone.parts["text"]._apply(lambda tensor: tensor.data.clone())  # what `to` comes to
    assert keeps.CB.data_ptr() == layer.weight.data_ptr() and keeps.SCB is not old
    assert all(torch.equal(getattr(keeps, name), tensor) for name, tensor in before.items())
    want = model.encode("a house").layer(-1)
    assert torch.equal(model.encode("a house").layer(-1), want) and want.isfinite().all()


def test_without_bitsandbytes_it_says_what_to_install(tiny_folder, monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(ValueError) as error:
        vlm.load(tiny_folder("qwen3_vl", 2), quantize="4-bit")
    assert_tells(error, "pip install bitsandbytes accelerate", "none")


@pytest.mark.parametrize("quantize", ["2-bit", ""])
def test_an_unknown_quantisation(tiny_folder, quantize):
    with pytest.raises(ValueError) as error:
        vlm.load(tiny_folder("qwen3_vl", 2), quantize=quantize)
    assert_tells(error, "8-bit or 4-bit")


def test_files_are_not_quantised(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: object())
    folder = tiny_folder("qwen3_vl", 2)
    file = write_single(folder, tmp_path / "one.safetensors")
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder, quantize="8-bit")
    assert_tells(error, file, "`quantize` is for folders", "Leave it out")
