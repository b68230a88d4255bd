"""What is said of each kind of bad model folder."""

import json
import shutil

import pytest
import torch
from model_files import assert_tells, edit, rewrite, shard
from safetensors.torch import load_file, save_file

import vlm


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of a tiny Qwen3-VL folder that a test may damage."""
    return shutil.copytree(tiny_folder("qwen3_vl", 2), tmp_path / "Qwen3-VL-Tiny")


def test_no_folder(tmp_path, folder):
    for path in (tmp_path / "nothing", folder / "config.json"):
        with pytest.raises(FileNotFoundError) as error:
            vlm.load(path)
        assert_tells(error, path)


def test_no_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "config.json", "Download")


@pytest.mark.parametrize("content", ["{", "[]", "", "\x80", '{"a": ' + "9" * 5000 + "}"])
def test_a_damaged_config(folder, content):
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder / "config.json", "Download")


@pytest.mark.parametrize("model_type", ["mistral", "qwen3_5_moe", None, ["qwen3_vl"]])
def test_a_family_that_is_not_run(folder, model_type):
    edit(folder / "config.json", model_type=model_type)
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "Qwen2-VL", "Qwen2.5-VL", "Qwen3-VL")


def test_no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "tokenizer.json", "Copy")


@pytest.mark.parametrize("content", ['{"version": "1.0", "mod', "", "[]", "{}"])
def test_a_damaged_tokenizer(folder, content):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "tokenizer", "Download")


def test_half_a_tokenizer(folder):
    (folder / "tokenizer.json").rename(folder / "vocab.json")  # and no merges.txt
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        vlm.load(folder)
    assert_tells(error, folder, "tokenizer")


def test_a_tokenizer_of_another_model(folder):
    rewrite(folder, lambda weights: weights.update({
        "model.language_model.embed_tokens.weight":
            weights["model.language_model.embed_tokens.weight"][:500].clone()}))  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"] | {"vocab_size": 500}
    edit(folder / "config.json", text_config=text)
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "tokenizer")


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(FileNotFoundError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "model.safetensors", "Download")


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_truncated_weights(folder, keep):
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:keep])
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, file, "download")


def test_a_web_page_saved_as_weights(folder):
    (folder / "model.safetensors").write_text("<!DOCTYPE html><html>Sign in</html>" * 20)
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, "model.safetensors", "download")


def test_an_index_that_names_a_missing_shard(folder):
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "model-00002-of-00002.safetensors", "Download")


def test_a_truncated_shard(folder):
    shard(folder)
    file = folder / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, file, "download")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "a\nb", "\ud800", "..", "a/b", ""])
def test_an_index_that_names_what_no_file_is_called(folder, name):
    file = shard(folder)
    index = json.loads(file.read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], name)
    file.write_text(json.dumps(index))
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, file, "expected files of the same folder", "Download")
    assert len(str(error.value)) < 500 and str(error.value).isprintable()


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"weight_map": []}', '{"weight_map": {}}',
                                     '{"weight_map": {"a": 1}}'])  # fmt: skip
def test_a_damaged_index(folder, content):
    shard(folder).write_text(content)
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, "model.safetensors.index.json", "Download")


def test_an_index_that_leaves_the_folder(folder, tmp_path):
    file = shard(folder)
    (folder / "model-00001-of-00002.safetensors").rename(tmp_path / "elsewhere.safetensors")
    index = json.loads(file.read_text())
    index["weight_map"] = {
        name: "../elsewhere.safetensors" if "00001" in part else part
        for name, part in index["weight_map"].items()
    }
    file.write_text(json.dumps(index))
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        vlm.load(folder)
    assert_tells(error, "elsewhere.safetensors")


@pytest.mark.parametrize(
    "name", ["model.language_model.layers.1.mlp.up_proj.weight", "model.visual.pos_embed.weight"]
)
def test_missing_tensors(folder, name):
    rewrite(folder, lambda weights: weights.pop(name))
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "Qwen3-VL", name.removeprefix("model."), "Download")


def test_tensors_of_another_size(folder):
    name = "model.language_model.layers.1.mlp.up_proj.weight"
    rewrite(folder, lambda weights: weights.update({name: weights[name][:7].clone()}))
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "up_proj")


def test_a_config_of_another_size(folder):
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", text_config=config["text_config"] | {"hidden_size": 128})
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder)


def test_weights_without_an_lm_head_are_whole(tiny_folder, tiny, tmp_path):
    """It is never run, so a folder without it serves as well."""
    folder = shutil.copytree(tiny_folder("qwen2_5_vl", 2), tmp_path / "headless")
    rewrite(folder, lambda weights: weights.pop("lm_head.weight"))
    model = vlm.load(folder, dtype="float32")
    assert torch.equal(model.encode("a").layer(2), tiny("qwen2_5_vl", 2).encode("a").layer(2))


@pytest.mark.parametrize("name", ["preprocessor_config.json", "video_preprocessor_config.json"])
@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_preprocessor_file(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, name)


def test_files_that_contradict_each_other(folder):
    edit(folder / "preprocessor_config.json", patch_size=14)
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, "patch_size", "14", "16")


def test_a_shard_too_many(folder):
    shard(folder)
    extra = "model-00003-of-00003.safetensors"
    shutil.copy(folder / "model-00002-of-00002.safetensors", folder / extra)
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder, extra, "index.json", "download")


def test_shards_without_an_index(folder):
    shard(folder).unlink()
    with pytest.raises(FileNotFoundError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "lacks model.safetensors.index.json")


def test_a_tensor_in_two_shards(folder):
    shard(folder)
    one, two = (folder / f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    again = min(load_file(one))
    rewrite(two, lambda weights: weights.update({again: load_file(one)[again]}))
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder, again, two.name, "twice")


def test_a_shard_that_lacks_a_tensor(folder):
    shard(folder)
    file = folder / "model-00002-of-00002.safetensors"
    gone = max(name for name in load_file(file) if "layers.1." in name)
    rewrite(file, lambda weights: weights.pop(gone))
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "lack 1 tensors", gone.removeprefix("model."))


def test_a_decoder_layer_too_many(folder):
    def repeat(weights):
        for name in [name for name in weights if "language_model.layers.1." in name]:
            weights[name.replace("layers.1.", "layers.2.")] = weights[name].clone()

    rewrite(folder, repeat)
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "11 tensors", "model.language_model.layers.2.", "does not have")


def test_tensors_that_are_no_part_of_it_are_left_alone(folder, tiny):
    extra = {"model.audio_tower.conv.weight": torch.ones(3), "spiece_model": torch.ones(2)}
    extra["model.language_model.rotary_emb.inv_freq"] = torch.ones(8)
    rewrite(folder, lambda weights: weights.update(extra))
    model = vlm.load(folder, dtype="float32")
    want = tiny("qwen3_vl", 2).encode("a").layer(-1)
    assert torch.equal(model.encode("a").layer(-1), want)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float64])
def test_weights_of_a_dtype_that_cannot_run(folder, dtype):
    name = "model.language_model.layers.1.mlp.up_proj.weight"
    rewrite(folder, lambda weights: weights.update({name: weights[name].to(dtype)}))
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    kind = {torch.int8: "I8", torch.uint8: "U8", torch.float64: "F64"}[dtype]
    assert_tells(error, folder, name, kind, "Load CLIP")


@pytest.mark.parametrize(
    "change", [{"num_attention_heads": "four"}, {"num_hidden_layers": None}, {"hidden_act": "no"}]
)
def test_a_config_of_which_no_model_can_be_built(folder, change):
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", text_config=config["text_config"] | change)
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder, "config.json")
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"


def test_weights_that_are_a_folder(tiny_folder, tmp_path):
    """As an archive unpacked twice leaves them."""
    folder = shutil.copytree(tiny_folder("qwen3_vl", 2), tmp_path / "model")
    file = folder / "model.safetensors"
    moved = file.rename(folder / "moved")
    file.mkdir()
    moved.rename(file / "model.safetensors")
    with pytest.raises(ValueError, match="model.safetensors is a folder, expected the file"):
        vlm.load(folder, dtype="float32")


def refusal(path):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        vlm.load(path)
    assert len(str(error.value)) < 600
    return error


@pytest.mark.parametrize("inside", ["Qwen3-VL-Tiny", "snapshots/0123abc", "text_encoder"])
def test_a_folder_around_the_model_names_it(folder, tmp_path, inside):
    """Unpacked into a folder of its name; Hugging Face's cache; a pipeline of diffusers."""
    outer = tmp_path / "outer"
    (outer / inside).parent.mkdir(parents=True)
    shutil.move(folder, outer / inside)
    (outer / "blobs").mkdir()
    if inside == "text_encoder":
        (outer / "vae").mkdir()
        (outer / "vae" / "config.json").write_text("{}")
    assert_tells(refusal(outer), outer, f"{outer / inside} has one: name that folder")


def test_an_adapter_by_itself(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    assert_tells(refusal(folder), folder, "LoRA adapter alone", "merge")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "q4.gguf", "weights.npz"])
def test_other_weights_are_named(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    assert_tells(refusal(folder), folder, "lacks model.safetensors", f"{name} is there")


@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
def test_weights_quantised_by_mlx(folder, key):
    edit(folder / "config.json", **{key: {"group_size": 64, "bits": 4}})
    assert_tells(refusal(folder), folder, "written for MLX", "original repository")


def test_other_weights_of_mlx(folder, tiny):
    """Those that lie as transformers has them work; a convolution turned round is told of."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file(weights, file, {"format": "mlx"})
    want = tiny("qwen3_vl", 2).encode("a").layer(-1)
    assert torch.equal(vlm.load(folder, dtype="float32").encode("a").layer(-1), want)
    name = "model.visual.patch_embed.proj.weight"
    weights[name] = weights[name].permute(0, 2, 3, 4, 1).contiguous()
    save_file(weights, file, {"format": "mlx"})
    assert_tells(refusal(folder), folder, "written for MLX", "original repository")


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_lora_in_the_weights_that_was_not_merged(folder, wrapped):
    name = "model.language_model.layers.1.self_attn.q_proj."

    def add(weights):
        for side in "AB":
            weights[f"{name}lora_{side}.default.weight"] = torch.ones(4, 4)
        if wrapped:
            weights[f"{name}base_layer.weight"] = weights.pop(f"{name}weight")

    rewrite(folder, add)
    assert_tells(refusal(folder), folder, "LoRA that was not merged", "merge_and_unload")
