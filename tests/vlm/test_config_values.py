"""config.json with values that mean nothing here, and with sizes that no weights have."""

import json
import shutil
import time

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import vlm
from vlm.families import FAMILIES
from vlm.weights.config_values import check_counts, without_calling
from vlm.weights.empty_model import build_empty
from vlm.weights.folder import build_config

pytestmark = pytest.mark.slow

PICTURE = torch.rand(64, 96, 3, generator=torch.Generator().manual_seed(1))
CALLING = {
    "return_dict": [False, None, "no"],
    "use_return_dict": [False],
    "use_cache": [None, False, "yes"],
    "output_hidden_states": [True, None],
    "output_attentions": [True],
    "torchscript": [True],
    "attn_implementation": ["eager", None],
}


@pytest.fixture
def changed(tiny_folder, tmp_path):
    """`changed(family, change)`: a toy folder whose config.json was changed in place."""

    def make(family, change):
        folder = shutil.copytree(tiny_folder(family, 2), tmp_path / "model")
        file = folder / "config.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        change(content)
        file.write_text(json.dumps(content), encoding="utf-8")
        return folder

    return make


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "internvl", "gemma3"])
def test_how_a_model_is_called_is_ours_to_say(changed, tiny_folder, family):
    """Every key at once, in every part, and the states are those of the plain folder."""
    odd = {key: values[0] for key, values in CALLING.items()}
    folder = changed(
        family,
        lambda config: [
            part.update(odd)
            for part in (config, config.get("text_config", {}), config["vision_config"])
        ],
    )
    plain = vlm.load(tiny_folder(family, 2), dtype="float32")
    model = vlm.load(folder, dtype="float32")
    for pictures in ([], [PICTURE]):
        one, other = (each.encode("a house", images=pictures) for each in (model, plain))
        assert torch.equal(one.layer(-1), other.layer(-1))


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in CALLING.items() for v in vs])
def test_each_of_them(changed, key, value):
    folder = changed("qwen3_vl", lambda config: config.update({key: value}))
    assert vlm.load(folder, dtype="float32").encode("a", images=[PICTURE]).layer(1).shape[-1] == 64


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3", "internvl", "gemma3", "smolvlm"])
def test_every_count_of_a_config_is_compared_with_the_weights(changed, tiny_folder, family):
    """Whatever a family calls it: found out by its own config.json."""
    content = json.loads((tiny_folder(family, 2) / "config.json").read_text(encoding="utf-8"))
    parts = [
        part for part in ("text_config", "vision_config", None) if part is None or part in content
    ]
    counted = 0
    for part in parts:
        for key in content if part is None else content[part]:
            if key not in ("num_hidden_layers", "depth"):
                continue
            counted += 1
            broken = json.loads(json.dumps(content))
            (broken if part is None else broken[part])[key] = 2**31
            start = time.process_time()
            with pytest.raises(
                ValueError, match=f"config.json of .* says {key} 2147483648"
            ) as found:
                check_counts(broken, 93, tiny_folder(family, 2))
            assert len(str(found.value)) < 400 and time.process_time() - start < 1
    assert counted == (1 if not FAMILIES[family].has_vision else 2)


@pytest.mark.parametrize("value", [["bfloat16"], 5, True, [[]]])
@pytest.mark.parametrize("key", ["torch_dtype", "dtype", "text_config", "vision_config",
                                 "quantization_config"])  # fmt: skip
def test_values_of_another_kind(changed, key, value):
    with pytest.raises(ValueError, match=f"config.json of .* says {key} .*, expected ") as caught:
        vlm.load(changed("qwen3_vl", lambda config: config.update({key: value})))
    assert str(caught.value).endswith("Download config.json again.")


@pytest.mark.parametrize("value", [["yes"], {"a": 1}, "false", 0.5])
def test_whether_embeddings_are_tied_is_true_or_false(changed, value):
    def change(config):
        config["text_config"]["tie_word_embeddings"] = value

    with pytest.raises(ValueError, match="tie_word_embeddings .*, expected true or false"):
        vlm.load(changed("qwen3_vl", change))


@pytest.mark.parametrize("value", [None, {}, {"text_config": "float16"}])
def test_a_dtype_that_says_nothing_is_the_files(changed, value):
    def change(config):
        for part in (config, config["text_config"]):
            part.pop("dtype", None)
            part["torch_dtype"] = value

    assert vlm.load(changed("qwen3_vl", change)).backbone.dtype == torch.float32


def test_a_count_beyond_the_tensors_is_refused_before_anything_is_built(changed):
    def flip(config):
        config["text_config"]["num_hidden_layers"] = 2**31 + 2
        config["text_config"].pop("layer_types", None)

    with pytest.raises(ValueError, match=r"num_hidden_layers 2147483650, and the weights hold \d+"):
        vlm.load(changed("qwen3_vl", flip), dtype="float32")


def test_a_list_longer_than_any_model_needs(changed):
    def flood(config):
        config["vision_config"]["deepstack_visual_indexes"] = list(range(100_000))

    with pytest.raises(ValueError, match="has 100000 entries in deepstack_visual_indexes"):
        vlm.load(changed("qwen3_vl", flood), dtype="float32")


def test_parts_are_cleaned_and_the_original_stays():
    config = {"use_cache": None, "text_config": {"use_cache": 1, "hidden_size": 4}, "x": [1]}
    assert without_calling(config) == {"text_config": {"hidden_size": 4}, "x": [1]}
    assert config["text_config"]["use_cache"] == 1


def huge(part, key, value):
    def change(config):
        config[part][key] = value

    return change


SIZES = [
    ("text_config", "vocab_size", 2**40),
    ("text_config", "vocab_size", 2**21),  # a tenth of a flip: an embedding of 0.5 GB
    ("text_config", "hidden_size", 2**31),
    ("text_config", "hidden_size", 2**18),
    ("text_config", "intermediate_size", 2**24),
    ("text_config", "num_attention_heads", 2**20),
    ("text_config", "head_dim", 2**22),
    ("vision_config", "hidden_size", 2**20),
    ("vision_config", "num_position_embeddings", 2**50),
    ("vision_config", "out_hidden_size", 2**26),
]


class Made(TorchDispatchMode):
    """How large the largest tensor was that took memory."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not out.is_meta:
            self.largest = max(self.largest, out.numel())
        return out


@pytest.mark.parametrize(("part", "key", "value"), SIZES)
def test_sizes_beyond_the_weights_take_no_memory(changed, part, key, value):
    """Whatever a config says, no tensor is made that is larger than the largest weight."""
    folder = changed("qwen3_vl", huge(part, key, value))
    start = time.process_time()
    with Made() as made, pytest.raises(ValueError, match=r"config\.json"):
        vlm.load(folder, dtype="float32")
    assert time.process_time() - start < 2
    assert made.largest <= 2**20


@pytest.mark.parametrize("family", list(FAMILIES))
def test_an_empty_model_has_all_its_buffers(tiny_folder, family):
    """Only parameters are nowhere; what is computed while a model is built is there."""
    config = json.loads((tiny_folder(family, 2) / "config.json").read_text(encoding="utf-8"))
    built = build_config(config, FAMILIES[family], tiny_folder(family, 2))
    model = build_empty(built, FAMILIES[family], tiny_folder(family, 2))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not any(buffer.is_meta for buffer in model.buffers())


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"])
@pytest.mark.parametrize(
    "sections", [[3, 3], [2, 3, 1, 9], [1, 1, 1.0], "4, 2, 2", {}, [-4, 6, 6], None]
)
def test_positions_that_no_head_could_be_turned_by(changed, family, sections):
    def change(config):
        for part in (config, config.get("text_config", {})):
            for name in ("rope_scaling", "rope_parameters"):
                if part.get(name):
                    part[name]["mrope_section"] = sections

    with pytest.raises(ValueError, match="mrope_section .* three whole numbers that sum"):
        vlm.load(changed(family, change), dtype="float32")
