"""What only Qwen3.5 does: linear attention, no reuse of beginnings, a newer transformers."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
import transformers
from rounding import rounding
from safetensors.torch import load_file, save_file
from test_memory_estimate import assert_about_right, peak_of

import vlm
from vlm.families import FAMILIES
from vlm.prompts.positions import mrope_positions
from vlm.prompts.prompt import Prompt
from vlm.running.backbone import TEXT
from vlm.running.hidden_states import states_of
from vlm.running.huggingface import HuggingFaceBackbone
from vlm.tiny.folder import write_tiny
from vlm.token_map import new_map

FAMILY = FAMILIES["qwen3_5"]
LAYERS = 8
HERE = hasattr(transformers, FAMILY.architecture)
needs_it = pytest.mark.skipif(not HERE, reason="this transformers has no Qwen3.5")


@pytest.fixture
def qwen(tiny):
    return tiny("qwen3_5", LAYERS)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("qwen3_5", LAYERS), tmp_path / "qwen3_5")


@pytest.fixture
def theirs(tiny_folder):
    """transformers' own class."""
    kind = getattr(transformers, FAMILY.architecture)
    return kind.from_pretrained(tiny_folder("qwen3_5", LAYERS), dtype=torch.float32).eval()


@pytest.mark.skipif(HERE, reason="this transformers has it")
def test_an_older_transformers_is_told_which_it_needs(tmp_path):
    with pytest.raises(ValueError, match=r"has no Qwen3\.5: Qwen3_5For.* Update transformers"):
        write_tiny(tmp_path / "tiny", "qwen3_5")


def test_a_version_without_the_class_is_named(monkeypatch, tmp_path):
    import vlm.families

    lacking = replace(FAMILY, architecture="Qwen3_5ForNobody")
    monkeypatch.setitem(vlm.families.FAMILIES, "qwen3_5", lacking)
    want = rf"transformers {re.escape(transformers.__version__)} has no Qwen3\.5: Qwen3_5ForNobody"
    with pytest.raises(ValueError, match=want):
        write_tiny(tmp_path / "tiny", "qwen3_5")


@needs_it
def test_three_of_four_layers_are_linear_attention(qwen, folder):
    kinds = ["linear" if hasattr(layer, "linear_attn") else "full"
             for layer in qwen.backbone.text.layers]  # fmt: skip
    assert kinds == ["linear", "linear", "linear", "full"] * 2
    names = load_file(folder / "model.safetensors")
    assert "model.language_model.layers.0.linear_attn.A_log" in names
    assert "model.language_model.layers.3.self_attn.q_proj.weight" in names
    assert "model.visual.merger.linear_fc2.bias" in names
    assert not any("deepstack" in name for name in names)


@needs_it
def test_the_template_leaves_no_thinking_open(qwen):
    h = qwen.encode("a house")
    assert qwen.tokenizer.text_of(list(h.prompt.ids)) == (
        "<|im_start|>user\na house<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert set(h.token_map["role"]) == {"template", "text"}


@needs_it
@pytest.mark.parametrize("tokens", [3, 64, 65, 150])
def test_sequences_of_any_length(qwen, theirs, err, tokens):
    """Shorter than the convolution, a piece of the linear attention, and more than one."""
    text = " ".join(["house"] * 200)
    h = qwen.encode(text)
    ids, roles = h.prompt.ids[:tokens], h.token_map["role"][:tokens]
    prompt = Prompt(ids, new_map(roles), (), (), real=tokens, prefix=0, dropped=0)
    short = states_of(qwen.engine, prompt, h.target, 512)
    with torch.no_grad():
        want = theirs.model(torch.tensor([ids])).last_hidden_state
    assert err(short.layer(-1), want) <= rounding()


@needs_it
@pytest.mark.parametrize("settings", [
    {"padding": "left"}, {"target": "flux2-klein-4b", "template": "chat"},
], ids=["left", "right"])  # fmt: skip
def test_pad_tokens_leave_no_trace(qwen, theirs, err, settings):
    """As transformers runs a 2-D mask; on the left they change nothing that stands behind them."""
    padded, plain = qwen.encode("a house", **settings), qwen.encode("a house")
    prompt = padded.prompt
    assert padded.n == 512 and prompt.real - prompt.left == plain.n
    ids = torch.tensor([prompt.ids])
    seen = torch.zeros_like(ids)
    seen[:, prompt.left : prompt.real] = 1
    with torch.no_grad():  # twice: before 5.16 it ignores the mask of a row that runs alone
        twice = {"attention_mask": torch.cat([seen, seen])}
        want = theirs.model(torch.cat([ids, ids]), **twice).last_hidden_state[:1]
    assert err(padded.layer(-1), want) <= rounding()
    for layer in range(padded.num_layers):
        real = padded.layer(layer)[:, prompt.left : prompt.real]
        assert err(real, plain.layer(layer)) <= rounding(layer)


@needs_it
def test_no_beginning_is_kept(qwen, picture):
    qwen.encode("A cat", [picture(64, 96)], depth=-1)
    again = qwen.encode("Two dogs", [picture(64, 96)], depth=-1)
    assert again.reused_tokens == 0 and len(qwen.prefix_cache) == 0


@needs_it
@pytest.mark.slow
def test_a_long_answer_is_what_generate_writes(qwen, theirs):
    """Its state is carried over many single tokens."""
    prompt = qwen.encode("a house", system="")
    ids = torch.tensor([prompt.prompt.ids])
    with torch.no_grad():
        out = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=70, do_sample=False
        )
    stops = qwen.tokenizer.find(*FAMILY.stop_tokens)
    want = [number for number in out[0, ids.shape[1] :].tolist() if number not in stops]
    found = qwen.rewrite("a house", system="", max_tokens=70, temperature=0)
    assert list(found.states.prompt.ids[ids.shape[1] :]) == want


@needs_it
def test_the_heads_for_drafting_are_not_read(folder, qwen):
    """Published folders hold a layer that guesses further tokens (`mtp.*`)."""
    weights = load_file(folder / "model.safetensors")
    weights["mtp.fc.weight"] = torch.zeros(64, 128)
    weights["mtp.layers.0.mlp.up_proj.weight"] = torch.zeros(128, 64)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = vlm.load(folder, dtype="float32")
    assert torch.equal(model.encode("a").layer(-1), qwen.encode("a").layer(-1))


@needs_it
def test_a_single_file_of_it_says_what_it_is(folder):
    with pytest.raises(ValueError, match=r"is not a VLM file that this pack reads, but a Qwen3\.5"):
        vlm.load(folder / "model.safetensors", tokenizer=folder)


@needs_it
def test_a_model_without_a_layer_of_full_attention(tmp_path):
    model = vlm.load(write_tiny(tmp_path / "tiny", "qwen3_5", layers=2), dtype="float32")
    assert model.backbone.key_width == 0
    assert model.rewrite("a house", max_tokens=3, temperature=0).tokens == 3


@needs_it
def test_mixtures_of_experts_are_another_family(folder):
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {"model_type": "qwen3_5_moe"}
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'qwen3_5_moe', which this pack cannot run"):
        vlm.load(folder)


@needs_it
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [128, 1024])
@torch.no_grad()
@pytest.mark.slow
def test_the_memory_of_a_layer(dtype, tokens):
    """Of the linear kind, which needs more than the other; at a quarter of 4B's width."""
    import transformers

    text = {"vocab_size": 2000, "num_hidden_layers": 1, "bos_token_id": 1, "eos_token_id": 2}
    text |= {"hidden_size": 640, "intermediate_size": 2304, "head_dim": 256}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 1, "linear_num_key_heads": 4}
    text |= {"linear_num_value_heads": 8, "linear_key_head_dim": 128, "linear_value_head_dim": 128}
    rope = {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25}
    text |= {"rope_parameters": rope | {"mrope_section": [11, 11, 10]}}
    vision = {"depth": 1, "hidden_size": 64, "intermediate_size": 64, "num_heads": 4}
    kind = getattr(transformers, FAMILY.architecture)
    config = kind.config_class(text_config=text, vision_config=vision | {"out_hidden_size": 640})
    model = kind._from_config(config, attn_implementation="sdpa", dtype=dtype)
    backbone = HuggingFaceBackbone(model.model.eval().requires_grad_(False), FAMILY)
    hidden = torch.randn(1, tokens, backbone.width, dtype=dtype)
    rotary = backbone.rotary(hidden, mrope_positions(tokens, []))
    mask = backbone.attention_mask(None, hidden, 0)
    measured = peak_of(lambda: backbone.run_layer(0, hidden, rotary, mask, None))
    assert_about_right(backbone.run_bytes(TEXT, tokens, 0), measured)
