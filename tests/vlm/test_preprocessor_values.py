"""Preprocessor files and vision configs in other spellings, and with values nobody can mean."""

import contextlib
import json
import re
import shutil

import pytest
import torch

import vlm
from vlm.families import FAMILIES
from vlm.pictures.preprocessor_values import clean
from vlm.weights.config_values import without_nulls
from vlm.weights.folder import read_config

FILE = "preprocessor_config.json"
PICTURE = torch.rand(96, 128, 3, generator=torch.Generator().manual_seed(1))
NUMBERS = ("patch_size", "temporal_patch_size", "merge_size", "min_pixels", "max_pixels",
           "min_patches", "max_patches", "min_frames", "max_frames", "num_frames")  # fmt: skip


@pytest.fixture
def changed(tiny_folder, tmp_path):
    """`changed(family, values, file)`: a toy folder with other values in a file."""

    def make(family, values, file=FILE, part=None):
        folder = shutil.copytree(tiny_folder(family, 2), tmp_path / "model")
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        (content if part is None else content[part]).update(values)
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
        return folder

    return make


def states(folder):
    return vlm.load(folder, dtype="float32").encode("a house", images=[PICTURE]).layer(-1)


SAME = {
    "qwen3_vl": [
        {"image_mean": 0.5, "image_std": 0.5},
        {"image_mean": [0.5], "image_std": [0.5]},
        {"image_mean": ["0.5", 0.5, 0.5]},
        {"patch_size": "16", "merge_size": 2.0},
    ],
    "internvl": [{"max_patches": "12"}, {"image_mean": None}],
    "gemma3": [{"image_mean": 0.5, "image_std": [0.5]}],
}


@pytest.mark.parametrize(
    ("family", "values"), [(k, v) for k, vs in SAME.items() for v in vs], ids=repr
)
def test_other_spellings_mean_the_same(changed, tiny_folder, family, values):
    assert torch.equal(states(changed(family, values)), states(tiny_folder(family, 2)))


@pytest.mark.parametrize("size", [512, [512], [512, 384], {"height": "512", "width": 512.0}])
def test_a_size_in_other_forms_is_read(size):
    (height, width) = clean({"size": size}, FILE)["size"].values()
    assert (height, width) == (512, 384 if size == [512, 384] else 512)


NONSENSE = (
    [{key: value} for key in NUMBERS
     for value in ("x", -2, [3], {}, 10**400, float("nan"), True, 1.5)]
    + [{key: 0} for key in NUMBERS if not key.endswith("_pixels")]
    + [{key: value} for key in ("image_mean", "image_std")
       for value in ("x", [], [1, 2], ["a"] * 3, {}, [float("inf")] * 3, True)]
    + [{"image_std": value} for value in (0, [0, 0, 0], [1, 1, 0], -1)]
    + [{"size": value} for value in ("x", [], [1, 2, 3], [None], True, {"shortest_edge": "x"},
                                     {"height": 0}, {"longest_edge": -1}, {"width": [1]})]
    + [{"fps": value} for value in ("x", 0, -1, float("inf"), [])]
    + [{"image_grid_pinpoints": value} for value in (5, [1], [[1, "x"]], [[1, 2, 3]], [[0, 1]])]
)  # fmt: skip


@pytest.mark.parametrize("values", NONSENSE, ids=repr)
def test_nonsense_is_refused_by_file_and_key(values):
    ((key, _),) = values.items()
    for content in (values, {"image_processor": values}):
        with pytest.raises(ValueError, match=f"{re.escape(FILE)} has {key}") as found:
            clean(content, FILE)
        assert len(str(found.value)) < 300


@pytest.mark.parametrize("family", ["qwen3_vl", "gemma3", "internvl", "llava_onevision", "smolvlm"])
def test_every_family_asks_there(changed, family):
    with pytest.raises(ValueError, match=f"{FILE} has image_std"):
        states(changed(family, {"image_std": [0, 0, 0]}))


def test_bounds_that_cannot_hold_together(changed):
    folder = changed("qwen3_vl", {"size": {"longest_edge": 1280}, "max_pixels": None})
    with pytest.raises(ValueError, match="preprocessor file .*longest_edge"):
        states(folder)


@pytest.mark.parametrize(
    ("family", "part", "values", "said"),
    [
        ("qwen3_vl", "vision_config", {"patch_size": 0}, "patch_size 0"),
        ("qwen3_vl", "vision_config", {"spatial_merge_size": -2}, "spatial_merge_size -2"),
        ("qwen3_vl", "vision_config", {"num_heads": 26}, "num_heads 26, expected a divisor"),
        ("qwen2_vl", "vision_config", {"num_heads": 7}, "num_heads 7, expected a divisor"),
        ("gemma3", "vision_config", {"num_attention_heads": 5}, "num_attention_heads 5, expected"),
        ("qwen3_vl", "vision_config", {"num_heads": 0}, "num_heads 0, expected a whole number"),
        ("qwen3_vl", None, {"vision_config": [1]}, r"vision_config \[1\]"),
        ("qwen3_vl", "vision_config", {"num_heads": 16}, "num_heads 16, .* a multiple of 4"),
        ("gemma3", "vision_config", {"patch_size": [14, 14]}, r"patch_size \[14, 14\]"),
        ("smolvlm", "vision_config", {"image_size": [64, 64]}, r"image_size \[64, 64\]"),
        ("llava_onevision", "vision_config", {"image_size": "wide"}, "image_size 'wide'"),
        *(
            ("qwen3_vl", "vision_config", {"deepstack_visual_indexes": wrong}, "deepstack_visual")
            for wrong in ([0, 1, 4], [0, 0, 1], [-1, 0, 1], [0, 1, "2"], 3, {"0": 1})
        ),
        ("internvl", None, {"downsample_ratio": 0}, "downsample_ratio 0"),
        ("internvl", "vision_config", {"patch_size": [14, "x"]}, "patch_size 'x'"),
        ("gemma3", None, {"mm_tokens_per_image": 0}, "mm_tokens_per_image 0"),
        ("smolvlm", None, {"scale_factor": 0}, "scale_factor 0"),
    ],
)
def test_numbers_of_the_config_that_pictures_are_cut_by(changed, family, part, values, said):
    with pytest.raises(ValueError, match=f"config.json .*{said}"):
        states(changed(family, values, "config.json", part))


def test_heads_that_are_not_said_are_the_published_ones(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder("qwen2_5_vl", 2), tmp_path / "model")
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del content["vision_config"]["num_heads"]
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="num_heads 16, .* a multiple of 4"):
        states(folder)


@pytest.mark.parametrize("family", ["gemma3", "smolvlm", "llava_onevision", "internvl"])
def test_a_null_is_the_published_number(tiny_folder, tmp_path, family):
    """It is read as that, which a toy's other files contradict in words, or not."""
    folder = shutil.copytree(tiny_folder(family, 2), tmp_path / "model")
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes = ("mm_tokens_per_image", "scale_factor", "downsample_ratio", "vision_aspect_ratio")
    for part, keys in ((content, sizes), (content["vision_config"], ("image_size", "patch_size"))):
        for key in keys:
            if key in part:
                part[key] = None
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    read = FAMILIES[family].vision.read_preprocessor
    for use in (lambda: read(folder, without_nulls(read_config(folder))), lambda: states(folder)):
        with contextlib.suppress(ValueError):
            use()
