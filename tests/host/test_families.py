"""Every family in a real ComfyUI: VLM Loader, VLM Encode, VLM Rewrite Prompt.

What a family computes is tests/vlm/test_every_family.py's.
"""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from comfy_result import PromptFailed
from graphs import node
from pack_graphs import picture, plain, seen
from safetensors.torch import load_file, save_file
from test_encode import near

from vlm.download.pins import pins
from vlm.families import FAMILIES as KNOWN

FAMILIES = tuple(KNOWN)
BLIND = tuple(name for name, family in KNOWN.items() if not family.has_vision)
LAYERS = 4
BASE = "gemma3_base"
PIPELINE = "text_encoders/pipeline/text_encoder"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A models folder with a tiny model of each family, and the text encoder of a pipeline."""
    from vlm.tiny.folder import write_tiny

    models = tmp_path_factory.mktemp("families") / "models"
    for family in FAMILIES:
        write_tiny(models / "VLM" / family, family, layers=LAYERS)
    _without_chat_template(models / "VLM" / "gemma3_text", models / "VLM" / BASE)
    encoder, tokenizer = models / PIPELINE, models / "text_encoders" / "pipeline" / "tokenizer"
    encoder.mkdir(parents=True)
    tokenizer.mkdir()
    whole = models / "VLM" / "qwen3"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(whole / name, tokenizer)
    shutil.copy(whole / "config.json", encoder)
    weights = load_file(whole / "model.safetensors")
    file = "model-00001-of-00001.safetensors"
    save_file(weights, encoder / file, {"format": "pt"})
    index = json.dumps({"weight_map": dict.fromkeys(weights, file)})
    (encoder / "model.safetensors.index.json").write_text(index)
    return models


def _without_chat_template(whole, out):
    """A base model as published: it was not trained on turns."""
    shutil.copytree(whole, out)
    (out / "chat_template.json").unlink(missing_ok=True)
    file = out / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"chat_template": None}
    file.write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def host(start_comfy, place):
    host = start_comfy(fresh=True, models_folder=place)
    yield host
    host.stop()


def test_all_are_listed(host):
    options = host.object_info("VLMCLoader")["input"]["required"]["model"][1]["options"]
    here = {f"VLM/{family}" for family in (*FAMILIES, BASE)} | {PIPELINE}
    assert here == set(options) - set(pins())  # and what can be fetched


@pytest.mark.parametrize("family", FAMILIES)
def test_its_states_are_the_librarys(host, place, family):
    import vlm

    pictures = () if family in BLIND else (0x3366AA, 0x99CC11)
    shown = [picture(color) for color in pictures] or [None]
    prompt = seen("a red house", *shown, model=f"VLM/{family}", target="chat", template="chat")
    result = host.run(prompt)
    model = vlm.load(place / "VLM" / family, dtype="float32")
    states = model.encode("a red house", [plain(color) for color in pictures])
    (entry,) = result.dump("dump")
    assert near(entry.tensor, states.layer(-1))
    assert entry.options["vlm_tokens"] == states.token_map
    assert result.text("vlm").startswith(f"{model.family.title}, {LAYERS} layers, 64 wide, float32")


@pytest.mark.parametrize("family", FAMILIES)
def test_it_writes(host, place, family):
    import vlm

    model = vlm.load(place / "VLM" / family, dtype="float32")
    want = model.rewrite("a red house", temperature=0, max_tokens=6).text
    assert host.run(rewriting(f"VLM/{family}")).outputs["text"]["text"][0] == want


@pytest.mark.parametrize("family", BLIND)
def test_a_picture_for_the_blind(host, family):
    with pytest.raises(PromptFailed) as caught:
        host.run(seen("a", picture(), model=f"VLM/{family}", target="chat"))
    assert (caught.value.node, caught.value.kind) == ("encode", "ValueError")
    assert f"{family} reads text only, pictures or a video were given" in caught.value.text
    assert "Use a model with eyes" in caught.value.text


def test_qwens_turns_on_another_family(host):
    with pytest.raises(PromptFailed) as caught:
        host.run(seen("a", None, model="VLM/llama", target="z-image"))
    assert caught.value.node == "encode"
    assert "llama has no <|im_start|>" in caught.value.text
    assert "Set `template` on VLM Encode to chat" in caught.value.text


def rewriting(model, **more):
    prompt = seen("a red house", None, model=model, target="chat")
    del prompt["layer"], prompt["dump"]
    prompt["encode"] = node(
        "VLMCRewrite", model=["vlm", 0], prompt="a red house", target="chat",
        preset="dense description", seed=0, temperature=0.0, max_tokens=6, **more,
    )  # fmt: skip
    prompt["text"] = node("PreviewAny", source=["encode", 1])
    return prompt


def test_a_model_without_a_chat_template(host, place):
    import vlm

    model = vlm.load(place / "VLM" / BASE, dtype="float32")
    for node_name, prompt in (
        ("VLM Rewrite Prompt", rewriting(f"VLM/{BASE}")),
        ("VLM Encode", seen("a", None, model=f"VLM/{BASE}", target="chat")),
    ):
        with pytest.raises(PromptFailed) as caught:
            host.run(prompt)
        assert (caught.value.node, caught.value.kind) == ("encode", "ValueError")
        assert f"{BASE} has no chat template" in caught.value.text
        assert f"Set `template` on {node_name} to raw" in caught.value.text
    want = model.rewrite("a red house", template="raw", temperature=0, max_tokens=6).text
    result = host.run(rewriting(f"VLM/{BASE}", template="raw"))
    assert result.outputs["text"]["text"][0] == want
    result = host.run(seen("a red house", None, model=f"VLM/{BASE}", target="chat", template="raw"))
    assert near(
        result.dump("dump")[0].tensor, model.encode("a red house", template="raw").layer(-1)
    )


def test_the_text_encoder_of_a_pipeline(host):
    """Its tokenizer lies beside it."""
    (whole,) = host.run(seen("a", None, model="VLM/qwen3", target="chat")).dump("dump")
    (alone,) = host.run(seen("a", None, model=PIPELINE, target="chat")).dump("dump")
    assert torch.equal(alone.tensor, whole.tensor)
