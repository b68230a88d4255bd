"""Model folders: good ones, and what is said of each kind of bad one."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import vlm
from vlm.load import torch_dtype


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of a tiny Qwen3-VL folder that a test may damage."""
    return shutil.copytree(tiny_folder("qwen3_vl", 2), tmp_path / "Qwen3-VL-Tiny")


def edit(file, **changes):
    content = json.loads(file.read_text(encoding="utf-8"))
    content.update(changes)
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def shard(folder):
    """Splits the weights in two files with an index; returns the index."""
    weights = load_file(folder / "model.safetensors")
    names, index = sorted(weights), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    file = folder / "model.safetensors.index.json"
    file.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return file


def assert_tells(error, *parts):
    """What is wrong, where, and what to do: whole sentences."""
    text = str(error.value)
    for part in parts:
        assert str(part) in text, text
    assert text[0].isupper() or text[0] == "/"
    assert text.endswith(".")
    assert text.count(". ") >= 1, f"says no fix: {text}"


# ---- good ones


def test_a_folder_is_the_built_in_model_of_the_same_size(folder, tiny, picture):
    images = [picture(64, 64)]
    from_disk = vlm.load(folder, dtype="float32")
    built_in = vlm.load("tiny", layers=2, dtype="float32")
    assert (from_disk.name, built_in.name) == ("Qwen3-VL-Tiny", "tiny")
    for model in (from_disk, built_in):
        h = model.encode("a red house", images)
        assert torch.equal(h.layers([0, 1, 2]), tiny("qwen3_vl", 2).encode(
            "a red house", images).layers([0, 1, 2]))  # fmt: skip


def test_the_size_of_the_built_in_model():
    model = vlm.load("tiny", width=128, layers=3)
    assert (model.backbone.width, model.num_layers) == (128, 4)
    assert vlm.load("tiny", layers=1, family="qwen2_vl").family.title == "Qwen2-VL"
    for sizes in ({"width": 0}, {"layers": 0}, {"width": 17}, {"family": "llama"}):
        with pytest.raises(ValueError, match="tiny"):
            vlm.load("tiny", **sizes)


def test_sizes_belong_to_the_built_in_model(folder):
    with pytest.raises(ValueError, match="built-in"):
        vlm.load(folder, layers=3)


def test_a_path_as_text_and_a_trailing_slash(folder):
    assert vlm.load(str(folder) + "/").num_layers == 3


def test_sharded_weights(folder, tiny):
    shard(folder)
    assert torch.equal(vlm.load(folder, dtype="float32").encode("a").layer(-1),
                       tiny("qwen3_vl", 2).encode("a").layer(-1))  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "want"),
    [("auto", torch.float32), ("bfloat16", torch.bfloat16), (torch.float16, torch.float16)],
)
def test_dtypes(folder, dtype, want):
    model = vlm.load(folder, dtype=dtype)
    floating = [p for p in model.backbone.parameters() if p.is_floating_point()]
    assert {p.dtype for p in floating} == {want}
    assert model.encode("a").layer(1).dtype == want
    assert not any(p.requires_grad for p in floating)
    assert not model.backbone.model.training


def test_auto_reads_the_dtype_of_the_files(folder):
    rewrite(folder, lambda weights: weights.update({k: w.bfloat16() for k, w in weights.items()}))
    edit(folder / "config.json", torch_dtype="bfloat16")
    assert vlm.load(folder).backbone.dtype == torch.bfloat16


def test_loading_leaves_torch_as_it_was(folder):
    vlm.load(folder, dtype="bfloat16")
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_a_host_takes_charge_of_the_weights(folder):
    from vlm.host import Host

    class Taking(Host):
        def attach(self, weights):
            self.taken = weights

    host = Taking()
    model = vlm.load(folder, host=host)
    assert model.host is host
    assert host.taken is not None


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_vl"])
def test_an_old_tokenizer_of_two_files(tiny_folder, tiny, tmp_path, family):
    """vocab.json and merges.txt instead of tokenizer.json, as some published folders have them."""
    folder = shutil.copytree(tiny_folder(family, 2), tmp_path / "old")
    file = folder / "tokenizer.json"
    model = json.loads(file.read_text(encoding="utf-8"))["model"]
    file.unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    lines = "".join(f"{a} {b}\n" for a, b in model["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")
    old = vlm.load(folder, dtype="float32")
    for text in ("a red house, it's 你好 🎨\n\n x", "<|im_end|><think> caf\u00e9", ""):
        want = tiny(family, 2).encode(text, target="flux2-klein-4b").prompt
        assert old.encode(text, target="flux2-klein-4b").prompt.ids == want.ids


def test_missing_preprocessor_files_mean_the_familys_values(tiny_folder, tiny, tmp_path, picture):
    for family in ("qwen3_vl", "qwen2_vl"):
        folder = shutil.copytree(tiny_folder(family, 2), tmp_path / family)
        (folder / "preprocessor_config.json").unlink()
        (folder / "video_preprocessor_config.json").unlink()
        rules = vlm.load(folder).rules.image
        want = tiny(family, 2).rules.image
        assert (rules.patch, rules.merge, rules.mean) == (want.patch, want.merge, want.mean)


def test_importing_the_library_loads_neither_transformers_nor_matplotlib():
    code = (
        "import sys, vlm; "
        "assert not {'transformers', 'matplotlib', 'comfy', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=vlm.__path__[0] + "/..")


# ---- bad ones


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


@pytest.mark.parametrize("content", ["{", "[]", "", "\x80"])
def test_a_damaged_config(folder, content):
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, folder / "config.json", "Download")


@pytest.mark.parametrize("model_type", ["llama", "qwen3_vl_moe", None, ["qwen3_vl"]])
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


@pytest.mark.parametrize("dtype", ["float8", "half", torch.int8, torch.float64, None])
def test_an_unknown_dtype(folder, dtype):
    with pytest.raises(ValueError) as error:
        vlm.load(folder, dtype=dtype)
    assert_tells(error, "bfloat16")
    with pytest.raises(ValueError):
        torch_dtype(dtype)


def test_a_device_that_is_not_there(folder):
    devices = ["gpu", "cuda:99"]
    for device in devices:
        with pytest.raises(ValueError) as error:
            vlm.load(folder, device=device)
        assert_tells(error, device)


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


def test_no_chat_template(folder):
    edit(folder / "tokenizer_config.json", chat_template=None)
    (folder / "chat_template.json").unlink()
    model = vlm.load(folder)
    assert model.encode("a", target="z-image").n
    with pytest.raises(ValueError) as error:
        model.encode("a")
    assert_tells(error, "chat template", "VLM Encode")


def test_a_chat_template_in_a_file_of_its_own(folder, tiny):
    """Published Qwen folders have it in chat_template.json or chat_template.jinja."""
    want = tiny("qwen3_vl", 2).encode("a", system="b").prompt.ids
    edit(folder / "tokenizer_config.json", chat_template=None)
    assert vlm.load(folder).encode("a", system="b").prompt.ids == want
    text = json.loads((folder / "chat_template.json").read_text())["chat_template"]
    (folder / "chat_template.json").unlink()
    (folder / "chat_template.jinja").write_text(text)
    assert vlm.load(folder).encode("a", system="b").prompt.ids == want


@pytest.mark.parametrize("template", ["{{ oops", "{{ raise_exception('no') }}", "nothing"])
def test_a_chat_template_that_cannot_be_used(folder, template):
    edit(folder / "tokenizer_config.json", chat_template=template)
    model = vlm.load(folder)
    with pytest.raises(ValueError) as error:
        model.encode("a")
    assert "chat template" in str(error.value)


def test_a_chat_template_without_pictures(folder, picture):
    text = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[-1].text }}{% endfor %}"
    edit(folder / "tokenizer_config.json", chat_template=text)
    model = vlm.load(folder)
    assert model.encode("a").n
    with pytest.raises(ValueError, match="no place for these pictures"):
        model.encode("a", [picture(64, 64)])
