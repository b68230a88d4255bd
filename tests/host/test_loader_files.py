"""VLM Loader's list: single files beside folders, and what is said of files it cannot read."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from pack_graphs import loader, picture, plain, seen
from refusals import change, failed, refused
from safetensors.torch import load_file, save_file
from test_memory import states_of
from tiny_checkpoints import write_qwen3vl

GGUF = "LLM/Qwen3-VL-4B-Q4_K_M.gguf"
FILE = "text_encoders/qwen/qwen3vl_tiny.safetensors"
DAMAGED = "text_encoders/qwen3vl_broken.safetensors"


@pytest.fixture(scope="module")
def place(checkout, tmp_path_factory):
    """A models folder with files of all kinds and one model folder."""
    models = tmp_path_factory.mktemp("loader") / "models"
    folder = write_qwen3vl(checkout, models / "VLM" / "tiny", layers=9)
    weights = load_file(folder / "model.safetensors")
    named = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): weight
        for name, weight in weights.items()
    }
    text = {name: weight for name, weight in named.items() if name.startswith("model.")}
    encoders = models / "text_encoders"
    (encoders / "qwen").mkdir(parents=True)
    for name in (FILE, DAMAGED):
        save_file(named, models / name)
        shutil.copy(folder / "config.json", (models / name).with_suffix(".json"))
    kept = {name: weight for name, weight in named.items() if "layers.2.mlp" not in name}
    save_file(kept, models / DAMAGED)
    save_file(text, encoders / "qwen_3_4b.safetensors")
    save_file({"encoder.block.0.layer.0.SelfAttention.k.weight": torch.ones(2, 2)},
              encoders / "t5.safetensors")  # fmt: skip
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.ones(2, 2)},
              encoders / "dit.safetensors")  # fmt: skip
    (encoders / "nothing.safetensors").write_bytes(b"no file")
    (encoders / "qwen-00001-of-00002.safetensors").write_bytes((models / FILE).read_bytes())
    (models / "LLM").mkdir()
    for name in (GGUF, "LLM/Qwen3-VL-4B-mmproj-F16.gguf", "LLM/llama.gguf"):
        (models / name).write_bytes(b"GGUF")
    return models


@pytest.fixture(scope="module")
def host(start_comfy, place):
    host = start_comfy(fresh=True, models_folder=place)
    yield host
    host.stop()


def test_what_is_listed(host):
    options = host.object_info("VLMCLoader")["input"]["required"]["model"][1]["options"]
    assert sorted(options[:4]) == [GGUF, "VLM/tiny", FILE, DAMAGED]
    # Behind them what can be fetched; the text encoder is there, as a file of somebody's own.
    assert options[4:] == ["VLM/Qwen3-VL-4B-Instruct", "VLM/Qwen3-VL-8B-Instruct"]


def test_a_file_gives_what_its_folder_gives(host, place):
    """Its tokenizer is ComfyUI's own; the folder has a copy of that."""
    import vlm

    want = vlm.load(place / "VLM" / "tiny", dtype="float32")
    prompt = seen("a red house", picture(0x336699), model=FILE)
    h = want.encode("a red house", [plain(0x336699)], target="z-image")
    torch.testing.assert_close(states_of(host.run(prompt)), h.layer(-8), rtol=1e-4, atol=1e-4)


def test_a_file_that_lacks_weights(host):
    text = failed(host, seen("broken", None, model=DAMAGED), "vlm")
    assert "lack 3 tensors of Qwen3-VL" in text and "layers.2.mlp" in text


def test_a_gguf_file_is_refused_when_the_workflow_is_queued(host):
    error = refused(host, seen("gguf", None, model=GGUF))
    text = " ".join(error.details("vlm"))
    assert all(part in text for part in ("CLIPLoader (GGUF)", "VLM From CLIP", "mmproj")), text


@pytest.mark.parametrize("name", ["../outside.safetensors", "VLM/../text_encoders/t5.safetensors"])
def test_a_file_that_is_not_listed_is_refused(host, name):
    error = refused(host, seen("elsewhere", None, model=name))
    assert "There is no VLM called" in " ".join(error.details("vlm"))


@pytest.mark.parametrize(
    ("name", "what"),
    [("t5", "a T5 text encoder"), ("dit", "a diffusion model"), ("nothing", "not a whole safe")],
)
def test_another_file_is_refused_by_what_it_is(host, name, what):
    error = refused(host, seen("another", None, model=f"text_encoders/{name}.safetensors"))
    text = " ".join(error.details("vlm"))
    assert f"{name}.safetensors is" in text and what in text


def test_the_line_says_who_read_it(host):
    host.free()
    assert "read by this pack's loader" in host.run(seen("who", None, model=FILE)).text("vlm")


def test_quantising_without_bitsandbytes_says_what_to_install(host):
    prompt = seen("quantised", None, model="VLM/tiny")
    text = failed(host, prompt | {"vlm": loader("VLM/tiny", quantize="4-bit")}, "vlm")
    assert "pip install bitsandbytes" in text


def test_an_unknown_quantisation_is_refused(host):
    error = refused(host, change(seen("two bits", None, model=FILE), "vlm", quantize="2-bit"))
    assert error.node_errors["vlm"]["errors"][0]["type"] == "value_not_in_list"


def test_a_prompt_without_the_later_inputs_runs(host):
    prompt = seen("as saved before", None, model=FILE)
    assert set(prompt["vlm"]["inputs"]) == {"model", "dtype", "device"}
    host.run(prompt)


def test_the_config_beside_belongs_to_the_file(host, place):
    host.free()  # the loader's result is kept as long as its widgets stay
    config = (place / FILE).with_suffix(".json")
    before = config.read_text()
    try:
        config.write_text(json.dumps(json.loads(before) | {"model_type": "qwen2_vl"}))
        text = failed(host, seen("another family", None, model=FILE, target="chat"), "vlm")
        assert "'qwen2_vl'" in text and "Qwen3-VL" in text
    finally:
        config.write_text(before)
