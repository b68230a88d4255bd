"""Pictures in one square, as the published processor of Gemma 3 makes them."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from hugging_face import pil_processor
from model_files import edit

import vlm


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("gemma3", 6), tmp_path / "gemma3")


@pytest.fixture
def look(tiny):
    return tiny("gemma3", 6).preprocessor


@pytest.fixture
def processor(folder):
    return pil_processor(folder)


@pytest.mark.parametrize("size", [(896, 896), (90, 150), (1000, 700), (2, 2000), (2000, 3)])
def test_pixels_are_those_of_its_processor(look, processor, picture, size):
    image = picture(*size)
    want = processor(images=[image], return_tensors="pt")["pixel_values"]
    (visual,) = look.prepare_images([image], None, None)
    found = visual.patches()
    assert found.pixels.shape == (1, 3, 896, 896)
    assert torch.equal(found.pixels[0], torch.as_tensor(np.asarray(want[0])))
    assert found.pixels[0, 0].numel() == visual.num_patches * visual.rules.patch**2


def test_a_folder_without_preprocessor_files_takes_the_published_values(look, folder):
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").unlink()
    assert vlm.load(folder, dtype="float32").preprocessor == look


def test_the_processor_file_of_transformers_5(folder):
    content = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    pictures = content | {"image_mean": [0.1, 0.2, 0.3]}
    edit(folder / "processor_config.json", image_processor=pictures)
    assert vlm.load(folder, dtype="float32").preprocessor.rules.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("pre", {"size": {"height": 224, "width": 896}}, "896x224 in the pre.*896x896"),
        ("pre", {"do_pan_and_scan": True}, "asks for pan-and-scan.*Set it to false"),
        ("pre", {"resample": 9}, "a filter that PIL does not have .resample 9"),
        ("", {"mm_tokens_per_image": 250}, "250 tokens a picture .*896x896.* patches of 28"),
        ("", {"mm_tokens_per_image": 0}, "mm_tokens_per_image 0"),
    ],
)
def test_files_that_contradict_or_ask_too_much(folder, file, changes, message):
    edit(folder / ("preprocessor_config.json" if file == "pre" else "config.json"), **changes)
    with pytest.raises(ValueError, match=message):
        vlm.load(folder)


def test_videos_are_refused(look, picture):
    with pytest.raises(ValueError, match="takes pictures, not videos"):
        look.prepare_video([picture(64, 64)], 1.0, None, None, None)


def test_close_to_the_torchvision_processor(look, folder, picture):
    """Its resize rounds in another way: never by more than one of 256 levels."""
    pytest.importorskip("torchvision")
    theirs = transformers.AutoImageProcessor.from_pretrained(str(folder), use_fast=True)
    for size in [(896, 896), (90, 150), (1000, 700), (2000, 30)]:
        image = picture(*size)
        want = theirs(images=[image], return_tensors="pt")["pixel_values"][0]
        (visual,) = look.prepare_images([image], None, None)
        levels = (visual.patches().pixels[0] - torch.as_tensor(want)).abs() * 127.5
        assert levels.max() <= 1.001 and levels.mean() <= 0.5, size
