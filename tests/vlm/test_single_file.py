"""A VLM in one file: every naming, what lies beside it, the published models, and the bad ones."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from model_files import STYLES, assert_tells, edit, rewrite, write_single
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel

import vlm
from vlm.families import FAMILIES
from vlm.weights.safetensors_header import Entry
from vlm.weights.single_file import published_config, published_preprocessor
from vlm.weights.tensor_names import find_model_type


@pytest.fixture
def folder(tiny_folder):
    return tiny_folder("qwen3_vl", 2)


@pytest.fixture
def file(folder, tmp_path):
    """A Qwen3-VL file in ComfyUI's naming, with its config beside it and no tokenizer."""
    return write_single(folder, tmp_path / "file" / "qwen3vl_tiny.safetensors")


# ---- good ones


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_a_file_is_its_folder(tiny_folder, tiny, tmp_path, picture, family, style):
    folder = tiny_folder(family, 2)
    file = write_single(folder, tmp_path / f"{style}.safetensors", style)
    model = vlm.load(file, dtype="float32", tokenizer=folder)
    want = tiny(family, 2)
    assert (model.name, model.family, model.preprocessor) == (style, want.family, want.preprocessor)
    for target in ("chat", "z-image"):
        a, b = (m.encode("a red house", [picture(64, 96)], target=target) for m in (model, want))
        assert a.token_map == b.token_map
        assert torch.equal(a.layers([0, 1, 2]), b.layers([0, 1, 2]))


def test_tokenizer_files_beside_it_are_used(folder, file, tiny):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, file.parent / name)
    want = tiny("qwen3_vl", 2).encode("a house").layer(-1)
    assert torch.equal(vlm.load(file, dtype="float32").encode("a house").layer(-1), want)


def test_the_chat_template_is_the_familys(folder, file, tiny, tmp_path):
    """The tokenizer may come from a text-only model, whose template has no place for pictures."""
    other = shutil.copytree(folder, tmp_path / "tokenizer")
    edit(other / "tokenizer_config.json", chat_template="{{ 'no place for pictures' }}")
    want = tiny("qwen3_vl", 2).encode("a", system="b").prompt.ids
    assert vlm.load(file, tokenizer=other).encode("a", system="b").prompt.ids == want


def test_a_config_can_be_given(folder, file):
    config = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").unlink()
    assert vlm.load(file, tokenizer=folder, config=config).num_layers == 3


def test_a_config_json_beside_counts_when_it_is_of_the_family(folder, file):
    file.with_suffix(".json").rename(file.parent / "config.json")
    assert vlm.load(file, tokenizer=folder).num_layers == 3
    edit(file.parent / "config.json", model_type="t5")  # another file's, in a folder of many
    with pytest.raises(ValueError, match="published are"):
        vlm.load(file, tokenizer=folder)


def test_the_lm_head_and_what_is_no_part_of_it_are_left_alone(folder, tmp_path, tiny):
    def add(weights):
        extra = {"lm_head.weight": torch.ones(2), "model.lm_head.weight": torch.ones(2)}
        weights.update(extra | {"spiece_model": torch.ones(3)})

    file = write_single(folder, tmp_path / "more.safetensors", change=add)
    model = vlm.load(file, tokenizer=folder, dtype="float32")
    want = tiny("qwen3_vl", 2).encode("a").layer(-1)
    assert torch.equal(model.encode("a").layer(-1), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_auto_is_the_dtype_of_most_weights(folder, tmp_path, dtype):
    def convert(weights):
        for name, weight in weights.items():
            weights[name] = weight if "norm" in name else weight.to(dtype)

    file = write_single(folder, tmp_path / "half.safetensors", change=convert)
    edit(file.with_suffix(".json"), torch_dtype=None)
    model = vlm.load(file, tokenizer=folder)
    assert {weight.dtype for weight in model.backbone.parameters()} == {dtype}


# ---- the published models: their config.json, without what no model is built from

QWEN2 = {
    "hidden_act": "silu", "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
}  # fmt: skip
QWEN2_5_VISION = {
    "depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420,
    "num_heads": 16, "in_channels": 3, "out_hidden_size": 3584, "patch_size": 14,
    "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2, "temporal_patch_size": 2,
}  # fmt: skip
QWEN2_VISION = {
    "depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_channels": 3,
    "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
}  # fmt: skip
QWEN3 = {
    "model_type": "qwen3_vl_text", "attention_bias": False, "head_dim": 128, "hidden_act": "silu",
    "rms_norm_eps": 1e-06, "rope_theta": 5000000, "vocab_size": 151936, "num_key_value_heads": 8,
    "rope_scaling": {
        "mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default",
    },
}  # fmt: skip
QWEN3_VISION = {
    "num_heads": 16, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
    "in_channels": 3, "num_position_embeddings": 2304, "hidden_act": "gelu_pytorch_tanh",
}  # fmt: skip
SMALL = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096}
LARGE = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304}
EARLY, LATE = {"deepstack_visual_indexes": [5, 11, 17]}, {"deepstack_visual_indexes": [8, 16, 24]}


def sizes(width, inner, layers, heads, kv, rows=None):
    found = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    found |= {"num_attention_heads": heads} | ({"num_key_value_heads": kv} if kv else {})
    return found | ({"vocab_size": rows} if rows else {})


def qwen2(kind, vision, *size):
    key = "hidden_size" if kind == "qwen2_vl" else "out_hidden_size"
    tower = vision | {key: size[0], "model_type": kind}
    return QWEN2 | sizes(*size) | {"model_type": kind, "vision_config": tower}


def qwen3(vision, width, inner, layers, heads):
    text = QWEN3 | sizes(width, inner, layers, heads, None)
    tower = QWEN3_VISION | vision | {"out_hidden_size": width, "model_type": "qwen3_vl"}
    return {"model_type": "qwen3_vl", "text_config": text, "vision_config": tower}


SINGLE_FILE = {
    "Qwen2-VL-2B": qwen2("qwen2_vl", QWEN2_VISION, 1536, 8960, 28, 12, 2, 151936),
    "Qwen2-VL-7B": qwen2("qwen2_vl", QWEN2_VISION, 3584, 18944, 28, 28, 4, 152064),
    "Qwen2-VL-72B": qwen2("qwen2_vl", QWEN2_VISION, 8192, 29568, 80, 64, 8, 152064),
    "Qwen2.5-VL-3B": qwen2("qwen2_5_vl", QWEN2_5_VISION, 2048, 11008, 36, 16, 2, 151936),
    "Qwen2.5-VL-7B": qwen2("qwen2_5_vl", QWEN2_5_VISION, 3584, 18944, 28, 28, 4, 152064),
    "Qwen2.5-VL-32B": qwen2(
        "qwen2_5_vl", QWEN2_5_VISION | {"intermediate_size": 3456}, 5120, 27648, 64, 40, 8, 152064
    ),
    "Qwen2.5-VL-72B": qwen2(
        "qwen2_5_vl", QWEN2_5_VISION | {"intermediate_size": 3456}, 8192, 29568, 80, 64, 8, 152064
    ),
    "Qwen3-VL-2B": qwen3(SMALL | EARLY, 2048, 6144, 28, 16),
    "Qwen3-VL-4B": qwen3(SMALL | EARLY, 2560, 9728, 36, 32),
    "Qwen3-VL-8B": qwen3(LARGE | LATE, 4096, 12288, 36, 32),
    "Qwen3-VL-32B": qwen3(LARGE | LATE, 5120, 25600, 64, 64),
}


def built(config):
    """transformers' model of a config, without memory."""
    with torch.device("meta"):
        return AutoModel.from_config(AutoConfig.for_model(**config))


@pytest.mark.parametrize("name", SINGLE_FILE)
@pytest.mark.slow
def test_a_published_model_is_known_by_its_tensors(name):
    want = built(SINGLE_FILE[name])
    entries = {n: Entry("BF16", tuple(w.shape), 0, 0) for n, w in want.state_dict().items()}
    kind = find_model_type(entries)
    assert kind == SINGLE_FILE[name]["model_type"]
    found = published_config(SimpleNamespace(where="file", entries=entries), FAMILIES[kind])
    got = built(found)
    shapes = {n: tuple(w.shape) for n, w in got.state_dict().items()}
    assert shapes == {n: entry.shape for n, entry in entries.items()}
    for part in ("text_config", "vision_config"):
        a, b = (getattr(model.config, part).to_dict() for model in (got, want))
        skip = {"max_position_embeddings", "tie_word_embeddings", "max_window_layers"}
        assert {k: v for k, v in a.items() if k not in skip} == {
            k: v for k, v in b.items() if k not in skip
        }


def test_the_published_preprocessing():
    """preprocessor_config.json of the repositories."""
    qwen2 = published_preprocessor(SINGLE_FILE["Qwen2.5-VL-7B"], FAMILIES["qwen2_5_vl"]).image
    assert (qwen2.patch, qwen2.merge, qwen2.min_pixels, qwen2.max_pixels) == (14, 2, 3136, 12845056)
    rules = published_preprocessor(SINGLE_FILE["Qwen3-VL-4B"], FAMILIES["qwen3_vl"])
    image = rules.image
    assert (image.patch, image.min_pixels, image.max_pixels) == (16, 65536, 16777216)
    assert image.mean == image.std == (0.5,) * 3 and rules.video.pixel.patch == 16


# ---- bad ones


def test_no_file(tmp_path, folder):
    with pytest.raises(FileNotFoundError) as error:
        vlm.load(tmp_path / "none.safetensors", tokenizer=folder)
    assert_tells(error, tmp_path / "none.safetensors")


def test_no_tokenizer(file):
    with pytest.raises(FileNotFoundError) as error:
        vlm.load(file)
    assert_tells(error, file, "tokenizer.json", "vocab.json", "tokenizer=folder")


def test_a_tokenizer_folder_without_one(file, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        vlm.load(file, tokenizer=tmp_path)
    assert_tells(error, tmp_path, "tokenizer.json")


def test_a_tokenizer_of_a_text_only_model(file, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "tokenizer")
    content = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = [one for one in content["added_tokens"] if one["content"] != "<|image_pad|>"]
    edit(other / "tokenizer.json", added_tokens=tokens)
    edit(other / "tokenizer_config.json", added_tokens_decoder=None, additional_special_tokens=None)
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=other)
    assert_tells(error, "<|image_pad|>", "download")


def test_a_width_that_was_never_published(folder, file):
    file.with_suffix(".json").unlink()
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, "Qwen3-VL 64 wide", "4B (2560)", "qwen3vl_tiny.json")


def test_a_config_of_another_family(folder, file):
    edit(file.with_suffix(".json"), model_type="qwen2_vl")
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, "'qwen2_vl'", "Qwen3-VL (qwen3_vl)")


def test_a_damaged_config_beside(folder, file):
    file.with_suffix(".json").write_text("{")
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file.with_suffix(".json"), "Download")


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_a_truncated_file(folder, file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, "download")


def test_a_language_model_cannot_see(folder, tmp_path):
    def blind(weights):
        for name in [name for name in weights if name.startswith("visual.")]:
            del weights[name]

    file = write_single(folder, tmp_path / "qwen_3_4b.safetensors", change=blind)
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, "cannot see", "model.embed_tokens.weight", "Load CLIP", "From CLIP")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("encoder.block.0.layer.0.SelfAttention.k.weight", "a T5 text encoder"),
        ("text_model.encoder.layers.0.mlp.fc1.weight", "a CLIP text encoder"),
        ("model.diffusion_model.input_blocks.0.0.weight", "a diffusion model"),
        ("double_blocks.0.img_attn.qkv.weight", "a diffusion model"),
        ("decoder.conv_in.weight", "a VAE"),
        ("lora_unet.lora_down.weight", "a LoRA"),
        ("model.layers.0.mlp.experts.0.up_proj.weight", "a mixture of experts"),
        ("anything.weight", "something else"),
        (None, "an empty file"),
    ],
)
def test_another_model(folder, tmp_path, name, what):
    file = tmp_path / "other.safetensors"
    save_file({name: torch.ones(2)} if name else {}, file)
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, what, name or "no tensors", "visual.*")


@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.up_proj.weight", "visual.merger.linear_fc2.bias"]
)
def test_missing_tensors(folder, file, name):
    rewrite(file, lambda weights: weights.pop(name))
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, "lack 1 tensors of Qwen3-VL", name.removeprefix("model."), "Download")


def test_a_missing_tensor_that_tells_a_size(folder, file):
    file.with_suffix(".json").unlink()
    rewrite(file, lambda weights: weights.pop("visual.pos_embed.weight"))
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, "visual.pos_embed.weight", "is missing", "Download")


def test_a_decoder_layer_too_many(folder, file):
    def repeat(weights):
        for name in [name for name in weights if "layers.1." in name]:
            weights[name.replace("layers.1.", "layers.2.")] = weights[name].clone()

    rewrite(file, repeat)
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, "11 tensors", "model.layers.2.", "does not have")


def test_a_tensor_of_another_shape(folder, file):
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(file, lambda weights: weights.update({name: weights[name][:7].clone()}))
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, name, "[7, 64]", "[128, 64]")


def test_the_same_tensor_under_two_names(folder, file):
    def twice(weights):
        weights["model.language_model.norm.weight"] = weights["model.norm.weight"].clone()

    rewrite(file, twice)
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, "model.norm.weight", "model.language_model.norm.weight")


def test_weights_of_eight_bits_without_a_mark(folder, file):
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(file, lambda weights: weights.update({name: weights[name].to(torch.int8)}))
    with pytest.raises(ValueError) as error:
        vlm.load(file, tokenizer=folder)
    assert_tells(error, file, name, "I8", "Load CLIP")
