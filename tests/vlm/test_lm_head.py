"""The LM head: where it comes from, when it is read, and what is said where there is none."""

import gc
import shutil
from pathlib import Path

import pytest
import torch
from model_files import assert_tells, edit, rewrite, write_single
from safetensors.torch import load_file

import vlm
from vlm.families.layer_cache import GrowingCache
from vlm.weights.single_file import published_config

HEAD = "lm_head.weight"


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """`folder(family)`: a copy of a tiny folder of two layers that a test may damage."""
    return lambda family: shutil.copytree(tiny_folder(family, 2), tmp_path / f"Tiny-{family}")


@pytest.fixture
def normed():
    return torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(0))


def head_of(folder, family):
    weights = load_file(folder / "model.safetensors")
    tied = family == "qwen3_vl"
    return weights["model.language_model.embed_tokens.weight" if tied else HEAD]


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_vl", "qwen2_5_vl"])
def test_logits_are_those_of_the_files_head(folder, normed, family):
    path = folder(family)
    backbone = vlm.load(path, dtype="float32").backbone
    assert (backbone.lm_head is None) == (family == "qwen3_vl")
    want = torch.nn.functional.linear(normed, head_of(path, family))[0, 0]
    assert torch.equal(backbone.head()(normed), want)


def test_it_is_read_when_the_model_writes_and_not_before(folder, monkeypatch):
    from vlm.weights.checkpoint import Checkpoint

    read, names = Checkpoint.read, []

    def noted(self, name):
        names.append(name)
        return read(self, name)

    monkeypatch.setattr(Checkpoint, "read", noted)
    model = vlm.load(folder("qwen2_vl"), dtype="float32")
    model.encode("a house", depth=-1)
    assert names and HEAD not in names
    model.rewrite("a house", temperature=0, max_tokens=2)
    assert names.count(HEAD) == 1


def test_the_built_in_model_keeps_its_own(normed):
    model = vlm.load("tiny", layers=1, family="qwen2_vl")  # its files are gone
    assert model.backbone.head()(normed).shape == (model.backbone.vocabulary,)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="maps are Linux's")
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_the_built_in_model_lets_go_of_its_files(family):
    model = vlm.load("tiny", layers=1, family=family)
    gc.collect()
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert not [line for line in maps if line.endswith("model.safetensors (deleted)")]
    assert model.backbone.vocabulary


def test_in_the_residual_streams_dtype(folder, normed):
    path = folder("qwen2_vl")
    logits = vlm.load(path, dtype="bfloat16").backbone.head()(normed.bfloat16())
    assert logits.dtype == torch.bfloat16


@pytest.mark.parametrize("tied", [True, False, None])
def test_config_json_says_whether_the_embeddings_are_it(folder, normed, tied):
    path = folder("qwen2_vl")
    edit(path / "config.json", tie_word_embeddings=tied)
    backbone = vlm.load(path, dtype="float32").backbone
    weights = load_file(path / "model.safetensors")
    name = "model.embed_tokens.weight" if tied else HEAD
    assert torch.equal(backbone.head()(normed), (normed @ weights[name].T)[0, 0])


def test_files_without_one(folder):
    path = folder("qwen2_vl")
    rewrite(path, lambda weights: weights.pop(HEAD))
    model = vlm.load(path)
    assert model.encode("a house").layer(-1).shape[-1] == 64
    with pytest.raises(ValueError) as error:
        model.rewrite("a house")
    assert_tells(error, path, "no LM head", "can encode but not write", "whole model")


def test_one_of_another_model(folder):
    path = folder("qwen2_vl")
    rewrite(path, lambda weights: weights.update({HEAD: torch.ones(7, 64)}))
    with pytest.raises(ValueError) as error:
        vlm.load(path).rewrite("a house")
    assert_tells(error, HEAD, "[7, 64]", "download them again")


def test_folders_that_were_saved_quantised():
    from vlm.weights.lm_head import LMHead

    with pytest.raises(ValueError) as error:
        LMHead("Saved-4bit", None).weight(10, 64, torch.float32)
    assert_tells(error, "Saved-4bit was saved quantised", "set `quantize`")


def test_fp8_with_a_scale(folder, normed, tmp_path):
    source = folder("qwen2_vl")
    head = head_of(source, "qwen2_vl")
    scale = float(head.abs().max() / 448)

    def shrink(weights):
        weights[HEAD] = (head / scale).to(torch.float8_e4m3fn)
        weights["lm_head.weight_scale"] = torch.tensor(scale)

    file = write_single(source, tmp_path / "fp8.safetensors", change=shrink)
    model = vlm.load(file, tokenizer=source, dtype="float32")
    want = (normed @ ((head / scale).to(torch.float8_e4m3fn).float() * scale).T)[0, 0]
    assert torch.allclose(model.backbone.head()(normed), want, rtol=1e-6, atol=1e-6)


def test_fp8_embeddings_are_it_in_their_scale(folder, normed, tmp_path):
    source = folder("qwen3_vl")
    table = head_of(source, "qwen3_vl")

    def shrink(weights):
        weights["model.embed_tokens.weight"] = table.to(torch.float8_e4m3fn)

    file = write_single(source, tmp_path / "fp8.safetensors", change=shrink)
    model = vlm.load(file, tokenizer=source, dtype="float32")
    want = (normed @ table.to(torch.float8_e4m3fn).float().T)[0, 0]
    assert torch.allclose(model.backbone.head()(normed), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("width", "tied"), [(2048, True), (3584, False)])
def test_published_models_up_to_4b_have_none_of_their_own(width, tied):
    from test_single_file import SINGLE_FILE, built

    from vlm.families import FAMILIES
    from vlm.weights.safetensors_header import Entry

    name = {2048: "Qwen2.5-VL-3B", 3584: "Qwen2.5-VL-7B"}[width]
    weights = built(SINGLE_FILE[name]).state_dict()

    class File:
        where = "file"
        entries = {n: Entry("BF16", tuple(w.shape), 0, 0) for n, w in weights.items()}

    assert published_config(File, FAMILIES["qwen2_5_vl"])["tie_word_embeddings"] is tied


# ---- keys and values that grow


@pytest.mark.parametrize("past", [0, 3])
def test_a_growing_cache_gives_what_joining_gives(past):
    draw = torch.Generator().manual_seed(1)
    keys, values = (torch.randn(1, 2, 9, 4, generator=draw) for _ in range(2))
    before = (keys[:, :, :past], values[:, :, :past]) if past else None
    cache = GrowingCache(9, before)
    for start, end in ((past, 6), (6, 7), (7, 9)):
        got = cache.update(keys[:, :, start:end], values[:, :, start:end], layer=0)
        assert torch.equal(got[0], keys[:, :, :end]) and torch.equal(got[1], values[:, :, :end])
        assert torch.equal(cache.whole[0], keys[:, :, :end])
    assert cache.before[2] == 9 and cache.before[0].shape[2] == 9


def test_a_growing_cache_as_comfyui_fills_it():
    cache = GrowingCache(3)
    assert cache.before == ()
    first = torch.randn(1, 2, 2, 4)
    cache.after(first, first + 1, 2)
    keys, values, length = cache.before
    assert length == 2 and keys.shape[2] == 3 and torch.equal(values[:, :, :2], first + 1)
    keys[:, :, 2:], values[:, :, 2:] = 5, 6  # its layers write into the room
    cache.after(keys, values, 3)
    assert cache.before[2] == 3 and bool((cache.before[0][:, :, 2] == 5).all())
