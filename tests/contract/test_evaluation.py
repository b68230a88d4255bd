"""What evaluating relies on: models that see pictures, read from a folder with their processor."""

import json

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

MODELS = "vlm/evaluate/image_models.py"
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SEEN = {"image_size": 16, "patch_size": 8}


def clip():
    text = {**SMALL, "intermediate_size": 16, "vocab_size": 20, "max_position_embeddings": 8}
    vision = {**SMALL, **SEEN, "intermediate_size": 16}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))


def dino():
    return Dinov2Model(Dinov2Config(**SMALL, **SEEN))


@pytest.mark.relies(MODELS)
@pytest.mark.parametrize("make", [clip, dino])
def test_a_folder_says_which_weights_it_lacks(tmp_path, make):
    make().save_pretrained(tmp_path)
    read = type(make()).from_pretrained
    how = {"local_files_only": True, "trust_remote_code": False, "dtype": torch.float32}
    model, info = read(str(tmp_path), output_loading_info=True, **how)
    assert not list(info["missing_keys"]) and model.dtype == torch.float32


@pytest.mark.relies(MODELS)
@pytest.mark.parametrize("name", ["CLIPImageProcessor", "BitImageProcessor"])
def test_an_image_processor_is_found_by_its_file(tmp_path, name):
    said = {"image_processor_type": name, "size": {"shortest_edge": 16}, "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said), encoding="utf-8")
    try:
        reader = AutoImageProcessor.from_pretrained(
            str(tmp_path), local_files_only=True, trust_remote_code=False
        )
    except ImportError as error:
        if "torchvision" not in str(error).lower():
            raise
        pytest.skip("this transformers reads no image processor without torchvision")
    found = reader(images=[Image.new("RGB", (16, 16))] * 2, return_tensors="pt").pixel_values
    assert found.shape == (2, 3, 16, 16)
