"""Model folders that load, and what is said of arguments that cannot be."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from model_files import assert_tells, edit, rewrite, shard

import vlm
from vlm.load import torch_dtype


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of a tiny Qwen3-VL folder that a test may damage."""
    return shutil.copytree(tiny_folder("qwen3_vl", 2), tmp_path / "Qwen3-VL-Tiny")


def test_a_folder_is_the_built_in_model_of_the_same_size(folder, tiny, picture):
    images = [picture(64, 64)]
    from_disk = vlm.load(folder, dtype="float32")
    built_in = vlm.load("tiny", layers=2, dtype="float32")
    assert (from_disk.name, built_in.name) == ("Qwen3-VL-Tiny", "tiny")
    for model in (from_disk, built_in):
        h = model.encode("a red house", images)
        assert torch.equal(h.layers([0, 1, 2]), tiny("qwen3_vl", 2).encode(
            "a red house", images).layers([0, 1, 2]))  # fmt: skip


@pytest.mark.slow
def test_the_size_of_the_built_in_model():
    model = vlm.load("tiny", width=128, layers=3)
    assert (model.backbone.width, model.num_layers) == (128, 4)
    assert vlm.load("tiny", layers=1, family="qwen2_vl").family.title == "Qwen2-VL"
    for sizes in ({"width": 0}, {"layers": 0}, {"width": 17}, {"family": "mistral"}):
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
    from vlm.running.host import Host

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
        rules = vlm.load(folder).preprocessor.image
        want = tiny(family, 2).preprocessor.image
        assert (rules.patch, rules.merge, rules.mean) == (want.patch, want.merge, want.mean)


@pytest.mark.slow
def test_importing_the_library_loads_neither_transformers_nor_matplotlib():
    code = (
        "import sys, vlm; "
        "assert not {'transformers', 'matplotlib', 'comfy', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=vlm.__path__[0] + "/..")


@pytest.mark.parametrize("dtype", ["float8", "half", torch.int8, torch.float64])
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


def test_no_chat_template(folder):
    edit(folder / "tokenizer_config.json", chat_template=None)
    (folder / "chat_template.json").unlink()
    model = vlm.load(folder)
    assert model.encode("a", target="z-image").n
    for call in (model.encode, model.rewrite):
        with pytest.raises(ValueError) as error:
            call("a")
        assert_tells(error, "has no chat template", "Set template to raw")
    assert model.encode("a", template="raw").n == 1
    made = model.rewrite("a", template="raw", system="", answer="b")
    assert model.tokenizer.text_of(made.states.prompt.ids) == "ab"


@pytest.mark.parametrize("value", ["</s>", [151645, "x"], True, 1.5])
def test_a_stop_token_that_is_no_id(folder, value):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(ValueError) as error:
        vlm.load(folder)
    assert_tells(error, "eos_token_id", "generation_config.json", folder)


@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("many", [True, False])
def test_answers_end_where_the_files_say(folder, monkeypatch, place, many):
    from vlm.running.sampling import Sampling

    first = vlm.load(folder)
    house, tree = (first.tokenizer.split(word)[0] for word in ("a red house", "#"))
    assert len(tree) == 1 and tree[0] not in house
    (folder / "generation_config.json").write_text("{}")
    edit(folder / place, eos_token_id=[7, *tree] if many else tree[0])
    model = vlm.load(folder)
    numbers = iter([*house, *tree])
    monkeypatch.setattr(Sampling, "choose", lambda self, logits, generator: next(numbers))
    found = model.rewrite("a house", max_tokens=20)
    assert found.finished and found.text == "a red house"


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
