"""InternVL's files: published names, language models inside, tokenizers, memory of its tower."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from rounding import rounding
from safetensors.torch import load_file, save_file
from test_memory_estimate import assert_about_right, peak_of

import vlm
from vlm.families.internvl import CHAT_TEMPLATE, FAMILY, IMAGE, VIDEO
from vlm.pictures.images import PixelRules
from vlm.pictures.tiles import MEAN, STD, TILE, TiledInput
from vlm.running.backbone import VISION
from vlm.running.huggingface import HuggingFaceBackbone
from vlm.tiny.folder import write_tiny
from vlm.tiny.internvl import ADDED, TINY, tiny_config

LAYERS = 4
AREA = TILE**2


@pytest.fixture
def model(tiny):
    return tiny("internvl", LAYERS)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("internvl", LAYERS), tmp_path / "internvl")


def edit(folder, name, change):
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    change(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


# --- weights


def test_the_tiny_model_has_the_published_tensors(folder):
    names = set(load_file(folder / "model.safetensors"))
    beginnings = ("language_model.model.", "vision_tower.", "multi_modal_projector.")
    rest = {name for name in names if not name.startswith(beginnings)}
    assert rest == {"language_model.lm_head.weight"}
    for name in (
        "vision_tower.embeddings.patch_embeddings.projection.weight",
        "vision_tower.encoder.layer.0.attention.projection_layer.weight",
        "vision_tower.encoder.layer.0.lambda_1",
        "multi_modal_projector.linear_1.weight",
        "language_model.model.layers.0.self_attn.q_proj.bias",
    ):
        assert name in names


def test_names_of_later_versions_load(folder, picture, model):
    """`model.language_model.*`, as transformers has saved them since 4.52."""
    weights = load_file(folder / "model.safetensors")
    renamed = {}
    for name, tensor in weights.items():
        name = name.replace("language_model.lm_head.", "lm_head.")
        name = name.replace("language_model.model.", "language_model.")
        renamed[name if name.startswith("lm_head.") else "model." + name] = tensor
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    renamed = vlm.load(folder, dtype="float32")
    found, want = (each.encode("a", [picture(64, 64)]) for each in (renamed, model))
    assert torch.equal(found.layer(-1), want.layer(-1))


def test_its_weights_alone_are_not_enough(folder):
    with pytest.raises(ValueError, match="but a VLM whose whole folder is needed"):
        vlm.load(folder / "model.safetensors")


def test_its_original_layout_is_not_run(folder):
    edit(folder, "config.json", lambda config: config.update(model_type="internvl_chat"))
    with pytest.raises(ValueError, match=r"'internvl_chat', which .*InternVL \(internvl\)"):
        vlm.load(folder)


def variant(folder, monkeypatch, change):
    """A tiny model whose language model is another one: `change(text_config)`."""
    from dataclasses import replace

    from vlm.tiny import TOYS

    def config(width, layers, ids):
        content = tiny_config(width, layers, ids)
        change(content["text_config"])
        return content

    monkeypatch.setitem(TOYS, "internvl", replace(TINY, config=config))
    return write_tiny(folder, "internvl", layers=LAYERS)


def to_llama(text):  # InternLM 2.5, as InternVL2_5-2B and -8B have it
    text |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "head_dim": 16}
    text |= {"attention_bias": False, "mlp_bias": False}


def to_qwen3(text):  # InternVL 3.5
    text |= {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 16}
    text |= {"rope_scaling": None, "attention_bias": False}


@pytest.mark.parametrize("change", [to_llama, to_qwen3])
def test_other_language_models_inside(tmp_path, monkeypatch, picture, err, change):
    folder = variant(tmp_path / "other", monkeypatch, change)
    found = vlm.load(folder, dtype="float32")
    h = found.encode("a red house", [picture(64, 64)])
    architecture = transformers.InternVLForConditionalGeneration
    reference = architecture.from_pretrained(str(folder), dtype=torch.float32).eval()
    with torch.no_grad():
        want = reference.model(
            input_ids=torch.tensor([h.prompt.ids]),
            pixel_values=h.prompt.vision_inputs[0].patches().pixels,
        ).last_hidden_state
    assert err(h.layer(-1), want) <= rounding()


def test_a_language_model_that_is_not_run(folder):
    edit(folder, "config.json", lambda c: c["text_config"].update(model_type="gemma2"))
    with pytest.raises(ValueError, match="model of the type 'gemma2'.*qwen2, qwen3, llama"):
        vlm.load(folder)


def like_internlm(content):
    """A tokenizer with words that begin with ▁, bytes as a fallback, and <s> before all."""
    added = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", *ADDED)
    specials = {name: number for number, name in enumerate(added)}
    merges = ["▁ a", "▁ r", "e d", "▁r ed", "h o", "u s", "ho us"]
    vocab = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *"▁ashoureditPn.{}'\n"]
    vocab += [merge.replace(" ", "") for merge in merges]
    first = {"Sequence": {"id": "A", "type_id": 0}}
    content["added_tokens"] = [
        {**content["added_tokens"][0], "id": number, "content": name}
        for name, number in specials.items()
    ]
    content["normalizer"] = None
    content["pre_tokenizer"] = {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False,
    }  # fmt: skip
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, first],
        "pair": [first, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ],
    }
    content["model"] |= {
        "byte_fallback": True,
        "fuse_unk": True,
        "vocab": {token: number for number, token in enumerate(dict.fromkeys(vocab))},
        "merges": merges,
    }


def test_a_tokenizer_that_begins_every_prompt(folder, picture):
    """InternLM's tokenizer puts <s> before the prompt; its chat template does not write it."""
    edit(folder, "tokenizer.json", like_internlm)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = vlm.load(folder, dtype="float32")
    said = "a red house, it is red.\n red"
    h = model.encode(said, [picture(64, 64)], system=" a red house.")
    text = (
        f"<|im_start|>system\n a red house.<|im_end|>\n<|im_start|>user\n<img>{IMAGE * 256}</img>"
        f"\n{said}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert list(h.prompt.ids) == theirs(text)["input_ids"]
    assert h.prompt.ids[0] == 0 and h.token_map["role"][0] == "template"
    forged = model.encode("<s>a</s>")
    assert list(forged.prompt.ids).count(0) == 1 and 1 not in forged.prompt.ids


def drop(folder, token):
    """Takes an added token out of the tokenizer."""

    def change(content):
        content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] != token]

    edit(folder, "tokenizer.json", change)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_a_tokenizer_without_videos(folder, picture):
    """As published before transformers knew <video>."""
    drop(folder, VIDEO)
    model = vlm.load(folder, dtype="float32")
    assert model.encode("a", [picture(64, 64)]).n > 256
    with pytest.raises(ValueError, match="has no place for these pictures"):
        model.encode("a", video=[picture(64, 64)])


def test_a_tokenizer_without_pictures(folder):
    drop(folder, IMAGE)
    with pytest.raises(ValueError, match="tokenizer has no token <IMG_CONTEXT>"):
        vlm.load(folder)


# --- memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 3, 12, 24])
@torch.no_grad()
@pytest.mark.slow
def test_the_memory_estimate_of_the_tower(dtype, count):
    """The real tower's proportions at a quarter of its width, two layers deep."""
    vision = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4}
    vision |= {"num_hidden_layers": 2, "attention_bias": True}
    text = {"model_type": "qwen2", "vocab_size": 200, "num_hidden_layers": 1, "hidden_size": 224}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 128}
    kind = transformers.InternVLForConditionalGeneration
    config = kind.config_class(text_config=text, vision_config=vision)
    model = kind._from_config(config, attn_implementation="sdpa", dtype=dtype).model
    backbone = HuggingFaceBackbone(model.eval().requires_grad_(False), FAMILY)
    tile, rules = np.zeros((TILE, TILE, 3), np.uint8), PixelRules(14, 2, 1, MEAN, STD, AREA, AREA)
    visual = TiledInput((tile,) * count, rules, count, 16, 16, is_video=True)
    seen = visual.patches()
    measured = peak_of(lambda: backbone.encode_vision(seen.pixels, seen.grid))
    assert_about_right(backbone.run_bytes(VISION, 10, visual.num_patches), measured)
