"""Models without weights, and the names and shapes that their parameters have."""

import threading
from pathlib import Path

import pytest
import torch
import transformers
from expected import known_fault
from safetensors import safe_open
from torch.nn.modules.module import register_module_parameter_registration_hook

from vlm.families import FAMILIES
from vlm.weights import experts
from vlm.weights.base_model import build_base_model
from vlm.weights.empty_model import build_empty
from vlm.weights.folder import UNBUILDABLE, build_config, read_config
from vlm.weights.tensor_names import our_name

BUILD, BASE = "vlm/weights/empty_model.py", "vlm/weights/base_model.py"
NAMES = "vlm/weights/tensor_names.py"
FOLDER = "vlm/weights/folder.py"
BACKBONE = "vlm/running/huggingface.py"


def stored(one):
    """Names in the toy model's file, as published ones have them, with their shapes."""
    with safe_open(one.folder / "model.safetensors", framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())}


def ours(one, name):
    """Our name of a tensor, in a file or of a module."""
    if one.text is one.model and name.startswith(("layers.", "embed_tokens.", "norm.")):
        name = f"language_model.{name}"
    return our_name(name, one.family)


# --- classes and configs


@pytest.mark.relies("vlm/families/family.py", FOLDER)
def test_it_has_every_family_but_those_that_came_later(record_property):
    missing = [one for one in FAMILIES.values() if not hasattr(transformers, one.architecture)]
    assert {one.model_type for one in missing} <= {"qwen3_5"}
    for one in missing:
        record_property("remark", f"has no {one.title}")
        with pytest.raises(ValueError, match=f"has no {one.title}"):
            build_config({"model_type": one.model_type}, one, Path("toy"))


@pytest.mark.relies(FOLDER, "vlm/weights/quantized.py")
def test_the_architecture_loads_that_model_type(one):
    architecture = getattr(transformers, one.family.architecture)
    assert architecture.config_class.model_type in (
        one.family.model_type,
        one.family.model_type.removesuffix("_text"),
        one.family.inside[1],
    )
    assert one.whole.config.model_type in (one.family.model_type, one.family.inside[1])


@pytest.mark.relies(FOLDER)
def test_a_config_is_built_from_the_content_of_config_json(one):
    content = read_config(one.folder)
    if one.family.base_model is None:
        built = transformers.AutoConfig.for_model(**content)
    else:
        built = build_config(content, one.family, one.folder)
    assert built.model_type in (one.family.model_type, one.family.inside[1])
    text = built.get_text_config()
    inside = content.get("text_config") or content
    for name in ("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads"):
        assert getattr(text, name) == inside[name]
    if one.family.language_models:
        assert text.model_type in one.family.language_models


@pytest.mark.relies(FOLDER)
def test_a_model_is_built_from_it(one, record_property):
    """With what ours adds, where a version asks for a value that no published file has."""
    content = read_config(one.folder)
    if one.family.base_model is not None:
        with torch.device("meta"):
            assert build_base_model(build_config(content, one.family, one.folder), one.family)
        return
    plain = transformers.AutoConfig.for_model(**content)
    fault = known_fault(f"{one.family.model_type}.config")
    with torch.device("meta"):
        assert transformers.AutoModel.from_config(build_config(content, one.family, one.folder))
        if fault is None:
            assert transformers.AutoModel.from_config(plain)
            return
        try:  # 5.0 asks for a value that no file has, 5.1 turns the experts' weights
            built = transformers.AutoModel.from_config(plain)
        except AttributeError as error:
            assert "pad_token_id" in str(error)
        else:
            wanted = {ours(one, name): each.shape for name, each in built.state_dict().items()}
            with safe_open(one.folder / "model.safetensors", framework="pt") as file:
                stored = {ours(one, name): file.get_slice(name) for name in list(file.keys())}
            names = wanted.keys() & stored.keys()
            assert any(tuple(wanted[n]) != tuple(stored[n].get_shape()) for n in names)
    record_property("remark", fault)


@pytest.mark.relies(FOLDER)
@pytest.mark.parametrize("wrong", [{"num_hidden_layers": "x"}, {"hidden_size": None}])
def test_a_wrong_value_is_an_error_that_we_know(wrong, tmp_path):
    """When the config is built or, up to 4.57, when the model is."""
    from huggingface_hub.errors import StrictDataclassError

    content = {"model_type": "qwen3", **wrong}
    with pytest.raises((*UNBUILDABLE, StrictDataclassError)):
        config = transformers.AutoConfig.for_model(**content)
        transformers.AutoModel.from_config(config)


@pytest.mark.relies("vlm/families/qwen3_vl_moe.py")
@pytest.mark.only(lambda family: family.model_type == "qwen3_vl_moe")
def test_the_config_counts_experts(one):
    names = ("num_experts", "num_experts_per_tok", "hidden_size", "moe_intermediate_size")
    assert [getattr(one.text.config, name) for name in names] == [4, 2, 64, 48]
    assert all(hasattr(layer.mlp.experts, "gate_up_proj") for layer in one.text.layers)


@pytest.mark.relies("vlm/families/qwen3_5.py")
@pytest.mark.only(lambda family: family.model_type == "qwen3_5")
def test_the_config_says_which_layers_are_linear_and_how_wide(one):
    config = one.text.config
    kinds = ["linear_attention" if hasattr(layer, "linear_attn") else "full_attention"
             for layer in one.text.layers]  # fmt: skip
    assert list(config.layer_types) == kinds and len(set(kinds)) == 2
    names = ("linear_num_value_heads", "linear_value_head_dim", "linear_key_head_dim")
    assert [getattr(config, name) for name in names] == [4, 16, 16]


# --- without weights


@pytest.mark.relies(BUILD, "vlm/tiny/folder.py")
def test_a_base_model_is_built_without_memory_for_its_parameters(one):
    config = build_config(read_config(one.folder), one.family, one.folder)
    model = build_empty(config, one.family, one.folder)
    assert {weight.device.type for weight in model.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in model.buffers()} == {"cpu"}
    own = (dict(each.named_buffers()) for each in (model, one.model))
    mine, theirs = own
    assert len(mine) == len(theirs)
    assert all(bool(torch.isfinite(buffer).all()) for buffer in mine.values())
    text = getattr(model, one.family.language if one.family.has_vision else "language_model")
    assert text.config._attn_implementation == "sdpa"


@pytest.mark.relies(BUILD)
def test_a_config_lists_its_parts_whose_dtype_decides_that_of_buffers(one):
    config = build_config(read_config(one.folder), one.family, one.folder)
    parts = {n for n in ("text_config", "vision_config") if n in read_config(one.folder)}
    assert parts <= set(config.sub_configs)
    for dtype in (torch.float32, torch.bfloat16):
        model = build_empty(config, one.family, one.folder, dtype)
        assert config.dtype == dtype == model.config.dtype
        text = getattr(model, one.family.language if one.family.has_vision else "language_model")
        scale = getattr(text.embed_tokens, "embed_scale", None)
        assert scale is None or torch.as_tensor(scale).dtype in (dtype, torch.float32)
        # Some versions keep all of a model in the dtype that its config names.
        assert {w.dtype for w in model.parameters()} <= {dtype, torch.float32}


@pytest.mark.relies(BUILD)
def test_parameters_of_another_thread_are_left_alone(one):
    """The hook of one thread is asked for modules of all."""
    seen = set()
    hook = register_module_parameter_registration_hook(
        lambda *_: seen.add(threading.get_ident()) or None
    )
    try:
        config = build_config(read_config(one.folder), one.family, one.folder)
        build_base_model(config, one.family)
    finally:
        hook.remove()
    assert seen == {threading.get_ident()}


@pytest.mark.relies(BUILD, BASE, BACKBONE)
def test_the_parts_have_their_names(one):
    text = one.text
    assert one.family.has_vision == hasattr(one.model, one.family.language)
    assert len(text.layers) == text.config.num_hidden_layers
    assert text.norm.weight.shape == (text.config.hidden_size,)
    table = text.embed_tokens
    assert table.weight.shape == (table.num_embeddings, text.config.hidden_size)
    assert isinstance(table, torch.nn.Embedding)


@pytest.mark.relies(BACKBONE, "vlm/running/fingerprint.py")
def test_the_last_norm_is_a_function_of_the_states(one):
    hidden = one.hidden(5) * 7
    whole = one.text.norm(hidden.clone())
    parts = [one.text.norm(hidden[:, i : i + 1].clone()) for i in range(5)]
    torch.testing.assert_close(whole, torch.cat(parts, 1))
    assert whole.dtype == hidden.dtype


# --- names


@pytest.mark.relies(NAMES, BUILD, "vlm/weights/fp8.py")
def test_published_names_and_its_own_are_the_same_tensors(one):
    """Whatever layout a version gives its modules, no two of its tensors become one."""
    held = [ours(one, name)
            for name in one.model.state_dict()]  # fmt: skip
    own = [name for name in held if name is not None]
    assert len(set(own)) == len(own) == len(held)
    published = {ours(one, name) for name in stored(one)} - {None}
    assert set(own) == published


@pytest.mark.relies(NAMES, BUILD, "vlm/weights/experts.py")
def test_shapes_are_the_published_ones_or_experts_turned(one):
    held = {ours(one, name): tuple(t.shape)
            for name, t in one.model.state_dict().items()}  # fmt: skip
    files = {ours(one, name): shape for name, shape in stored(one).items() if ours(one, name)}
    turned = experts.find_turned(files, held)
    assert experts.swap(held, turned).items() <= files.items()
    assert {name for name in held if held[name] != files[name]} <= set(turned)


@pytest.mark.relies("vlm/weights/lm_head.py")
def test_its_own_loading_finds_every_tensor(one):
    """So a model's files, as we read and write them, are what transformers reads."""
    assert not [name for name in one.info["missing_keys"] if not name.startswith("lm_head")]
    assert not one.info["unexpected_keys"]
    tied = one.whole.get_output_embeddings().weight is one.text.embed_tokens.weight
    assert tied == (not any(name.endswith("lm_head.weight") for name in stored(one)))


@pytest.mark.relies(BUILD)
def test_its_own_loading_reads_the_same_numbers(one):
    """Tensor by tensor, experts turned where this version has them so."""
    with safe_open(one.folder / "model.safetensors", framework="pt") as file:
        files = {ours(one, name): file.get_tensor(name) for name in list(file.keys())}
    for name, weight in one.model.state_dict().items():
        want = files[ours(one, name)]
        same = weight if weight.shape == want.shape else weight.transpose(1, 2)
        assert torch.equal(same, want), name
