"""Single files on VLM Loader that Load CLIP reads: the bits of VLM From CLIP on the same file.

ComfyUI knows models of the published sizes alone, so each test tells it, and our table of them,
those of its tiny file.
"""

from __future__ import annotations

import functools
from pathlib import Path

import comfy.model_management as management
import comfy.sd
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_storage import FORMS, LAYERS, LOADED_AS, STORED, TEXT, published, storages
from tiny_clips import KINDS, native_encode, ours, text_config, weights_of

FAMILIES = {"z-image": "qwen3", "krea2": "qwen3_vl", "qwen-image": "qwen2_5_vl"}


@pytest.fixture
def written(monkeypatch, tmp_path):
    """`written(kind, form)`: a tiny file that ComfyUI's loader reads and VLM Loader lists."""
    from pack.nodes import folders, native_sizes

    def write(kind: str, form: str, **more: torch.Tensor):
        one, recognised = KINDS[kind], LOADED_AS[kind][0]
        tensors = FORMS[form](weights_of(kind, LAYERS[kind])) | more
        file = tmp_path / f"{kind}.safetensors"
        save_file({published(kind, name): tensor for name, tensor in tensors.items()}, str(file))
        size = native_sizes.Size(FAMILIES[kind], one.width, LAYERS[kind], kind != "z-image")
        options = {f"{one.key}_model_config": text_config(LAYERS[kind], one.width)}
        load = comfy.sd.load_clip

        @functools.wraps(load)
        def load_tiny(*args, model_options=None, **kwargs):
            return load(*args, model_options=(model_options or {}) | options, **kwargs)

        monkeypatch.setattr(comfy.sd, "load_clip", load_tiny)
        monkeypatch.setattr(comfy.sd, "detect_te_model", lambda _: recognised)
        monkeypatch.setitem(native_sizes.SIZES, recognised.name, size)
        monkeypatch.setattr(folders, "model_path", lambda name: file)
        return file

    return write


def execute(dtype: str = "auto", device: str = "auto"):
    """VLM Loader's output and the line on it."""
    from pack.nodes.load import VLMLoader

    output = VLMLoader.execute("file", dtype, device)
    return output.result[0], output.ui["text"][0]


@pytest.mark.parametrize(
    ("kind", "form"),
    [(kind, form) for kind in FAMILIES for form in FORMS if (kind, form) != ("krea2", "fp8")],
)
def test_it_gives_the_bits_of_vlm_from_clip(written, as_vlm, picture, kind, form):
    file = written(kind, form)
    model, line = execute()
    assert "read by ComfyUI's loader" in line
    clip = comfy.sd.load_clip([str(file)], clip_type=LOADED_AS[kind][1])
    assert storages(clip) == {STORED[form]}
    want = as_vlm(clip, "huggingface")
    for images in [None] if kind == "z-image" else [None, [picture(130, 99)]]:
        found = ours(model, TEXT, kind, images=images)
        assert torch.equal(found, ours(want, TEXT, kind, images=images))
        assert found.isfinite().all() and found.std() > 0.1
    assert torch.equal(ours(model, TEXT, kind), native_encode(clip, TEXT))
    assert model.name == file.stem


@pytest.mark.parametrize("form", ["bfloat16", "fp8 scaled", "int8"])
def test_it_stays_as_the_file_stores_it(written, form):
    written("krea2", form)
    model, _ = execute()
    weights = [layer.mlp.up_proj.weight.data for layer in model.backbone.text.layers]
    kept = {getattr(weight, "_qdata", weight).dtype for weight in weights}
    assert [str(dtype).removeprefix("torch.") for dtype in kept] == [STORED[form]]


def test_what_is_known_of_a_picture_is_reused_and_unloading_changes_nothing(written, picture):
    written("krea2", "fp8 scaled")
    model, _ = execute(device="cpu")
    images = [picture(200, 330)]
    model.encode("something else", images=images, target="krea2", depth=20)
    h = model.encode(TEXT, images=images, target="krea2", depth=20)
    assert h.reused_tokens == h.prompt.prefix > 0
    states = h.layer(20)
    management.unload_all_models()
    model.prefix_cache.clear()
    whole = model.encode(TEXT, images=images, target="krea2", depth=20).layer(20)
    assert (states - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_a_dtype_is_read_by_the_packs_own_loader(written):
    """The way it was before, for who wants hidden states in the dtype of the file."""
    written("z-image", "bfloat16")
    with pytest.raises(ValueError, match="8B: `dtype` auto"):
        execute(dtype="bfloat16")


@pytest.mark.parametrize("form", ["int8", "nvfp4"])
def test_what_only_comfyui_reads_names_dtype_auto(written, form):
    written("krea2", form)
    with pytest.raises(ValueError, match="choose `dtype` auto"):
        execute(dtype="float16")


def test_a_file_that_lacks_weights_is_refused(written):
    """ComfyUI only warns in its log, and encodes with whatever lay in memory."""
    file = written("krea2", "bfloat16")
    kept = {name: one for name, one in load_file(file).items() if "layers.2.mlp" not in name}
    save_file(kept, file)
    with pytest.raises(ValueError, match=r"lack 3 tensors of Qwen3-VL.*layers\.2\.mlp\.down_proj"):
        execute()


def test_a_cut_file_is_refused(written):
    file = written("krea2", "bfloat16")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="not a whole safetensors file.*download it again"):
        execute()


def test_tensors_of_other_sizes_are_refused(written):
    file = written("z-image", "bfloat16")
    weights = load_file(file)
    weights["model.layers.1.mlp.up_proj.weight"] = torch.zeros(7, 64)
    save_file(weights, file)
    with pytest.raises(ValueError, match=r"ComfyUI cannot read .*up_proj.*Download it again"):
        execute()


@pytest.mark.parametrize("form", ["bfloat16", "fp8 scaled"])
def test_qwen2_5_vl_writes_with_the_head_in_its_file(written, form):
    """ComfyUI leaves that head out, so VLM From CLIP cannot write."""
    rows = weights_of("qwen-image", LAYERS["qwen-image"])["model.embed_tokens.weight"]
    head = rows.roll(1, 0).to(torch.bfloat16).contiguous()
    written("qwen-image", form, **{"lm_head.weight": head})
    model, _ = execute()
    state = model.encode("a", target="chat", depth=-1).layer(-1)[:, -1:]
    want = torch.nn.functional.linear(state[0, -1].to(torch.bfloat16), head)
    assert torch.equal(model.backbone.head()(state), want)


def test_its_answer_is_that_heads(written):
    rows = weights_of("qwen-image", LAYERS["qwen-image"])["model.embed_tokens.weight"]
    written("qwen-image", "bfloat16", **{"lm_head.weight": torch.zeros_like(rows)})
    model, _ = execute()  # all tokens are alike to it: the first one of them is the likeliest
    assert model.rewrite("a red house", max_tokens=3, temperature=0).text == "!!!"


def test_a_file_without_its_head_cannot_write(written):
    written("qwen-image", "bfloat16")
    model, _ = execute()
    with pytest.raises(ValueError, match="holds no LM head"):
        model.rewrite("a red house", max_tokens=3)


def test_the_table_holds_the_sizes_that_comfyui_builds():
    from comfy.text_encoders import llama, qwen3vl, qwen35
    from pack.nodes.native_sizes import SIZES

    known = qwen3vl.QWEN3VL_CONFIGS
    configs = {
        "QWEN25_7B": llama.Qwen25_7BVLI_Config, "QWEN3_4B": llama.Qwen3_4BConfig,
        "QWEN3_8B": llama.Qwen3_8BConfig, "QWEN3VL_4B": known["qwen3vl_4b"],
        "QWEN3VL_8B": known["qwen3vl_8b"], "QWEN3VL_32B": known.get("qwen3vl_32b"),
    }  # fmt: skip
    configs |= {
        name.upper(): functools.partial(qwen35._make_config, name) for name in qwen35.QWEN35_MODELS
    }
    assert configs.keys() == SIZES.keys()
    for name, config in configs.items():
        if config is None:  # an older ComfyUI, whose loader does not tell it apart either
            assert not hasattr(comfy.sd.TEModel, name)
            continue
        size = SIZES[name]
        assert (size.width, size.layers) == (config().hidden_size, config().num_hidden_layers)


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ({}, True),
        ({"layers": 35}, False),
        ({"width": 2048}, False),  # a Qwen3-VL-2B is taken for an 8B there
        ({"named": "visual."}, False),  # half renamed, its tower would be left out
        ({"places": "F8_E4M3"}, False),  # its tower cannot add them
    ],
)
def test_only_the_sizes_that_comfyui_builds_are_given_to_it(tmp_path, change, read):
    from pack.nodes.native_sizes import is_read_by_comfyui
    from pack.vlm.weights.safetensors_header import Entry

    width, layers = change.get("width", 2560), change.get("layers", 36)
    tower = change.get("named", "model.visual.")
    shapes = {
        f"{tower}deepstack_merger_list.0.norm.weight": (4096,),
        f"{tower}merger.linear_fc2.weight": (width, 4096),
        f"{tower}patch_embed.proj.weight": (1024, 3, 2, 16, 16),
    }
    for layer in range(layers):
        name = f"model.language_model.layers.{layer}."
        shapes |= {f"{name}input_layernorm.weight": (width,)}
    entries = {name: Entry("BF16", shape, 0, 0) for name, shape in shapes.items()}
    entries[f"{tower}pos_embed.weight"] = Entry(change.get("places", "BF16"), (2304, 1024), 0, 0)
    assert is_read_by_comfyui(tmp_path / "file.safetensors", entries) == read
    (tmp_path / "file.json").write_text('{"model_type": "qwen3_vl"}')
    assert not is_read_by_comfyui(tmp_path / "file.safetensors", entries)


def test_odd_shapes_and_a_comfyui_without_the_question_are_left_to_the_library(monkeypatch):
    from pack.nodes.native_sizes import is_read_by_comfyui
    from pack.vlm.weights.safetensors_header import Entry

    odd = {"model.layers.0.self_attn.k_proj.bias": Entry("BF16", (), 0, 0)}
    assert not is_read_by_comfyui(Path("file.safetensors"), odd)
    monkeypatch.delattr(comfy.sd, "detect_te_model")
    assert not is_read_by_comfyui(Path("file.safetensors"), odd)
