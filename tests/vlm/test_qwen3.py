"""Folders of Qwen3, the text-only model: the layouts that people download."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import vlm

LAYERS = 4
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.json")
# Takes text alone, as Qwen3's does: it asks how a message begins.
TEMPLATE = """\
{%- for message in messages %}
{%- if message.role == 'user' and message.content.startswith('<tool_response>') %}
{{- raise_exception('no tools here') }}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}
"""


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """As Qwen/Qwen3-4B: everything in one folder, with the published template."""
    out = shutil.copytree(tiny_folder("qwen3", LAYERS), tmp_path / "Qwen3-4B")
    file = out / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"chat_template": TEMPLATE}
    file.write_text(json.dumps(settings))
    (out / "chat_template.json").unlink()
    return out


@pytest.fixture
def pipeline(folder, tmp_path):
    """As in a pipeline of diffusers: shards in `text_encoder`, the rest in `tokenizer`."""
    whole, beside = tmp_path / "pipeline" / "text_encoder", tmp_path / "pipeline" / "tokenizer"
    whole.mkdir(parents=True)
    beside.mkdir()
    for name in TOKENIZER:
        if (folder / name).exists():
            shutil.copy(folder / name, beside)
    shutil.copy(folder / "config.json", whole)
    weights = load_file(folder / "model.safetensors")
    index = {}
    for number in (1, 2):
        file = f"model-{number:05}-of-00002.safetensors"
        part = {name: weights[name] for name in sorted(weights)[number - 1 :: 2]}
        save_file(part, whole / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (whole / "model.safetensors.index.json").write_text(text)
    return whole


@pytest.fixture
def want(tiny):
    """Every layer of a prompt."""
    return tiny("qwen3", LAYERS).encode("a red house").layers(range(LAYERS + 1))


def states(model):
    return model.encode("a red house").layers(range(LAYERS + 1))


def test_the_folder_of_the_whole_model(folder, want):
    weights = load_file(folder / "model.safetensors")
    assert "model.layers.0.self_attn.q_norm.weight" in weights and "lm_head.weight" not in weights
    assert torch.equal(states(vlm.load(folder, dtype="float32")), want)


def test_the_text_encoder_of_a_pipeline(pipeline, want):
    model = vlm.load(pipeline, dtype="float32")  # the tokenizer beside it
    assert model.name == "text_encoder" and torch.equal(states(model), want)


def test_a_tokenizer_in_any_other_folder(pipeline, tmp_path, want):
    place = (pipeline.parent / "tokenizer").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="text_encoder has no tokenizer"):
        vlm.load(pipeline)
    assert torch.equal(states(vlm.load(pipeline, dtype="float32", tokenizer=place)), want)


def test_its_own_tokenizer_comes_before_one_beside_it(folder, want):
    beside = folder.parent / "tokenizer"
    beside.mkdir()
    (beside / "tokenizer.json").write_text("{}")
    assert torch.equal(states(vlm.load(folder, dtype="float32")), want)


@pytest.mark.parametrize("architecture", ["Qwen3Model", "Qwen3ForCausalLM"])
def test_weights_without_the_prefix(folder, want, architecture):
    """As `Qwen3Model.save_pretrained` writes them, and embedding models have them."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {"architectures": [architecture]}
    file.write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("model."): weight for name, weight in weights.items()}
    save_file(bare, folder / "model.safetensors", {"format": "pt"})
    model = vlm.load(folder, dtype="float32")
    assert torch.equal(states(model), want)
    assert model.rewrite("a house", max_tokens=2, temperature=0).tokens <= 2  # a tied head


def test_an_untied_head_that_is_not_there(folder, want):
    """A text encoder alone encodes; it cannot write."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {"tie_word_embeddings": False}
    file.write_text(json.dumps(config))
    model = vlm.load(folder, dtype="float32")
    assert torch.equal(states(model), want)
    with pytest.raises(ValueError, match="holds no LM head .*it can encode but not write"):
        model.rewrite("a house", max_tokens=2)


def test_the_published_template_takes_text_alone(folder):
    model = vlm.load(folder, dtype="float32")
    h = model.encode("a house", system="You paint.")
    assert model.tokenizer.text_of(list(h.prompt.ids)) == (
        "<|im_start|>system\nYou paint.<|im_end|>\n<|im_start|>user\na house<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert model.encode("<tool_response>").token_map["role"].count("text") > 1


def test_z_images_template(folder):
    model = vlm.load(folder, dtype="float32")
    h = model.encode("a house", target="z-image")
    text = "<|im_start|>user\na house<|im_end|>\n<|im_start|>assistant\n"
    assert model.tokenizer.text_of(list(h.prompt.ids)) == text
    assert torch.equal(h.layer(-2), model.encode("a house").layer(-2))


def test_it_cannot_see(folder, picture):
    model = vlm.load(folder, dtype="float32")
    with pytest.raises(ValueError, match="Qwen3-4B reads text only, pictures or a video were"):
        model.encode("a house", [picture(64, 64)])
    with pytest.raises(ValueError, match="reads text only"):
        model.encode("a house", video=[picture(64, 64)] * 4)
