"""What only Qwen3-VL with experts does: its weights, in the layouts that are about."""

import json
import shutil
import sys

import pytest
import torch
import transformers
from rounding import rounding
from safetensors.torch import load_file, save_file
from test_memory_estimate import assert_about_right, peak_of

import vlm
from vlm.families import FAMILIES
from vlm.prompts.positions import mrope_positions
from vlm.running.backbone import TEXT
from vlm.running.huggingface import HuggingFaceBackbone
from vlm.tiny.folder import write_tiny

LAYERS = 4
EXPERTS = "model.language_model.layers.{}.mlp.experts.{}"


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("qwen3_vl_moe", LAYERS), tmp_path / "moe")


@pytest.fixture
def states(tiny, picture):
    """`states(model)`: every layer of a prompt with a picture; of the tiny model without one."""

    def run(model=None):
        h = (model or tiny("qwen3_vl_moe", LAYERS)).encode("a red house", [picture(70, 90)])
        return h.layers(range(LAYERS + 1))

    return run


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_the_tiny_model_has_the_published_tensors(folder):
    weights = load_file(folder / "model.safetensors")
    width, inner, count = 64, 48, 4
    for layer in range(LAYERS):
        gate_up, down = (weights[EXPERTS.format(layer, part)]
                         for part in ("gate_up_proj", "down_proj"))  # fmt: skip
        assert gate_up.shape == (count, width, 2 * inner)
        assert down.shape == (count, inner, width)
        router = weights[f"model.language_model.layers.{layer}.mlp.gate.weight"]
        assert router.shape == (count, width)
    assert "lm_head.weight" in weights


@pytest.mark.parametrize("width", [96, 48])
def test_square_experts_are_turned_right(tmp_path, width, err):
    """One of the two weights is square there, so its own shape says nothing."""
    folder = write_tiny(tmp_path / "square", "qwen3_vl_moe", width=width, layers=2)
    kind = transformers.Qwen3VLMoeForConditionalGeneration
    theirs = kind.from_pretrained(folder, dtype=torch.float32).eval()
    model = vlm.load(folder, dtype="float32")
    h = model.encode("a red house")
    experts = "layers.0.mlp.experts.down_proj"
    weight = model.backbone.text.get_parameter(experts)
    stored = load_file(folder / "model.safetensors")[EXPERTS.format(0, "down_proj")]
    gate_up = model.backbone.text.get_parameter("layers.0.mlp.experts.gate_up_proj")
    outputs_first = (96, width), (width, 48)
    if (gate_up.shape[1:], weight.shape[1:]) != outputs_first:
        assert torch.equal(weight, stored)
        with torch.no_grad():
            want = theirs.model(torch.tensor([h.prompt.ids])).last_hidden_state
        assert err(h.layer(-1), want) <= rounding()
    else:  # transformers itself goes by the shape, and leaves the square one as it is
        assert torch.equal(weight, stored.transpose(1, 2))


def test_files_with_the_outputs_first_load_the_same(folder, states):
    """As some versions of transformers 5 saved them."""

    def turn(weights):
        for layer in range(LAYERS):
            for part in ("gate_up_proj", "down_proj"):
                name = EXPERTS.format(layer, part)
                weights[name] = weights[name].transpose(1, 2).contiguous()

    rewrite(folder, turn)
    torch.testing.assert_close(states(vlm.load(folder, dtype="float32")), states())


@pytest.mark.parametrize("ours, theirs", [
    ("model.language_model.", "language_model.model."), ("model.visual.", "visual."),
])  # fmt: skip
def test_older_names(folder, states, ours, theirs):
    def rename(weights):
        for name in [name for name in weights if name.startswith(ours)]:
            weights[theirs + name.removeprefix(ours)] = weights.pop(name)

    rewrite(folder, rename)
    assert torch.equal(states(vlm.load(folder, dtype="float32")), states())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_experts_stay_pages_of_the_file(folder):
    from test_checkpoint import is_in, mapped

    model = vlm.load(folder)
    ranges = mapped(folder / "model.safetensors")
    assert all(is_in(weight, ranges) for weight in model.backbone.parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision(folder, err, dtype):
    dtype = getattr(torch, dtype)
    model = vlm.load(folder, dtype=dtype)
    kind = transformers.Qwen3VLMoeForConditionalGeneration
    theirs = kind.from_pretrained(folder, dtype=dtype).eval()
    h = model.encode("a red house")
    with torch.no_grad():
        want = theirs.model(torch.tensor([h.prompt.ids])).last_hidden_state
    assert h.layer(-1).dtype == dtype and err(h.layer(-1), want) <= 0.02


def test_missing_and_damaged_experts_are_named(folder):
    name = EXPERTS.format(1, "down_proj")
    kept = load_file(folder / "model.safetensors")
    rewrite(folder, lambda weights: weights.pop(name))
    with pytest.raises(ValueError, match=r"lack 1 tensors of Qwen3-VL-MoE.*experts\.down_proj"):
        vlm.load(folder)
    save_file(kept | {name: kept[name][:, :40].contiguous()}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 tensors have another size.*experts\.down_proj"):
        vlm.load(folder)


def test_experts_one_by_one_are_refused(folder):
    """The published files hold each layer's experts in one."""
    name = EXPERTS.format(0, "down_proj")

    def split(weights):
        for number, expert in enumerate(weights.pop(name)):
            key = name.replace("experts.", f"experts.{number}.") + ".weight"
            weights[key] = expert.T.contiguous()

    rewrite(folder, split)
    with pytest.raises(ValueError, match="lack 1 tensors of Qwen3-VL-MoE"):
        vlm.load(folder)


def test_a_single_file_of_it_is_refused(folder):
    with pytest.raises(ValueError, match="but a mixture of experts"):
        vlm.load(folder / "model.safetensors", tokenizer=folder)


def test_it_writes_with_an_lm_head_of_its_own(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    model = vlm.load(folder, dtype="float32")
    found = model.rewrite("a house", system="", max_tokens=4, temperature=0)
    assert found.tokens <= 4 and model.backbone.lm_head is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [128, 512])
@torch.no_grad()
@pytest.mark.slow
def test_the_memory_of_a_layer(dtype, tokens):
    """At a quarter of the published width, with the published number of experts."""
    text = {"vocab_size": 2000, "num_hidden_layers": 1, "bos_token_id": 1, "eos_token_id": 2}
    text |= {"hidden_size": 512, "moe_intermediate_size": 192, "intermediate_size": 1536}
    text |= {"num_experts": 128, "num_experts_per_tok": 8, "head_dim": 128, "pad_token_id": None}
    text |= {"num_attention_heads": 8, "num_key_value_heads": 1}
    rope = {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    vision = {"depth": 1, "hidden_size": 64, "intermediate_size": 64, "num_heads": 4}
    vision |= {"out_hidden_size": 512, "deepstack_visual_indexes": [0]}
    kind = transformers.Qwen3VLMoeForConditionalGeneration
    config = kind.config_class(text_config=text | {"rope_scaling": rope}, vision_config=vision)
    model = kind._from_config(config, attn_implementation="sdpa", dtype=dtype)
    family = FAMILIES["qwen3_vl_moe"]
    backbone = HuggingFaceBackbone(model.model.eval().requires_grad_(False), family)
    hidden = torch.randn(1, tokens, backbone.width, dtype=dtype)
    rotary = backbone.rotary(hidden, mrope_positions(tokens, []))
    mask = backbone.attention_mask(None, hidden, 0)
    measured = peak_of(lambda: backbone.run_layer(0, hidden, rotary, mask, None))
    assert_about_right(backbone.run_bytes(TEXT, tokens, 0), measured)
