"""The families as data, against the configs and classes of transformers."""

import pytest
import torch

from vlm.families import FAMILIES, family_of


@pytest.mark.parametrize("model_type", ["mistral", "", None, "Qwen3-VL"])
def test_another_family_is_an_error_that_lists_them(model_type):
    with pytest.raises(ValueError) as error:
        family_of(model_type, "models/VLM/llama-3")
    for part in ("models/VLM/llama-3", repr(model_type), "Qwen2.5-VL", "qwen2_5_vl", "Qwen3-VL"):
        assert part in str(error.value)


def test_the_architecture_loads_that_model_type(family):
    import transformers

    architecture = getattr(transformers, FAMILIES[family].architecture)
    assert architecture.config_class.model_type == family


def test_the_vision_tokens_are_the_configs(v, hf):
    config = hf.model.config
    one = v.family.vision
    assert v.tokenizer.id_of(one.image_token) == config.image_token_id
    assert v.tokenizer.id_of(one.video_token) == config.video_token_id
    assert v.tokenizer.id_of(one.start) == config.vision_start_token_id
    assert v.tokenizer.id_of(one.end) == config.vision_end_token_id


def test_vision_features_are_the_familys(v, hf, picture, err):
    """Features and DeepStack features of one picture, seen alone or beside another."""
    pictures = [picture(90, 150), picture(200, 64)]
    patches = [one.patches() for one in v.encode("x", pictures).prompt.vision_inputs]
    pixels = torch.cat([one.pixels for one in patches])
    grids = torch.tensor([one.grid for one in patches])
    with torch.no_grad():
        seen = [v.backbone.encode_vision(one.pixels, one.grid) for one in patches]
        output = hf.model.model.visual(pixels, grid_thw=grids)
    output = getattr(output, "pooler_output", output)
    want = output[0] if isinstance(output, tuple) else output
    assert err(torch.cat([features for features, _ in seen]), want) <= 1e-5
    assert {len(levels) for _, levels in seen} == {v.backbone.num_deepstack}
    assert v.backbone.num_deepstack == (3 if v.family.model_type == "qwen3_vl" else 0)
    if isinstance(output, tuple):
        deepstack = output[1]
        for level, theirs in enumerate(deepstack):
            assert err(torch.cat([levels[level] for _, levels in seen]), theirs) <= 1e-5


def test_only_qwen3_writes_times_and_only_qwen25_counts_them():
    class Vision:
        tokens_per_second = 4

    vision = {name: FAMILIES[name].vision for name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")}
    steps = {name: one.video_time_step(1.5, Vision) for name, one in vision.items()}
    assert steps == {"qwen2_vl": 1.0, "qwen2_5_vl": 6.0, "qwen3_vl": 1.0}
    assert [name for name, one in vision.items() if one.frames_apart] == ["qwen3_vl"]
