"""Our preprocessing against the families' own Hugging Face processors, and its rules."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hugging_face import HAS_PIL_MODULES, pil_module, torchvision_processor
from noise_pictures import noise, patches
from PIL import Image

from vlm.pictures.images import QWEN2, QWEN3, PixelRules, fit, read_rules
from vlm.pictures.patches import to_patches

ROOT = Path(__file__).resolve().parents[2]


QWEN2_FILE = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "Qwen2VLImageProcessor",
}
QWEN3_FILE = {
    "size": {"longest_edge": 16777216, "shortest_edge": 65536},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "Qwen2VLImageProcessorFast",
}
FILES = {"qwen2_vl": QWEN2_FILE, "qwen3_vl": QWEN3_FILE}
SIZES = [(1, 1), (3, 3), (1, 199), (200, 1), (27, 29), (28, 28), (70, 98), (96, 64), (333, 517),
         (640, 480), (3, 500), (1200, 90), (1023, 1025)]  # fmt: skip


def processor(file):
    """The family's PIL-based processor of the installed transformers."""
    settings = {
        key: file[key]
        for key in ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    }
    rules = read_rules(file)
    bounds = {"min_pixels": rules.min_pixels, "max_pixels": rules.max_pixels}
    module, name = pil_module("qwen2_vl"), "Qwen2VLImageProcessor"
    return getattr(module, f"{name}Pil" if HAS_PIL_MODULES else name)(**settings, **bounds)


def run_processor(hugging_face, picture, least, most, **options):
    size = {"shortest_edge": least, "longest_edge": most}
    out = hugging_face(images=[picture], size=size, return_tensors="pt", **options)
    return out["pixel_values"], tuple(out["image_grid_thw"][0].tolist())


def assert_equal(file, picture, least=None, most=None):
    rules = read_rules(file)
    ours = patches(picture, rules, least, most)
    pixels, grid = run_processor(
        processor(file),
        picture,
        least or rules.min_pixels,
        most or rules.max_pixels,
        input_data_format="channels_last",  # a picture 3 pixels high is ambiguous to it
    )
    assert ours.grid == grid
    assert ours.pixels.dtype == torch.float32
    assert torch.equal(ours.pixels, pixels)
    assert (ours.frames, ours.rows, ours.cols) == (1, grid[1] // 2, grid[2] // 2)


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equal_to_hugging_face(file, size):
    assert_equal(file, noise(*size))


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
@pytest.mark.parametrize("bounds", [(4 * 28 * 28, 16 * 28 * 28), (1, 50176), (602112, 602112)])
@pytest.mark.parametrize("size", [(20, 30), (300, 411), (9, 1500)], ids=str)
def test_equal_to_hugging_face_with_a_budget(file, bounds, size):
    assert_equal(file, noise(*size), *bounds)


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_equal_to_hugging_face_for_other_modes(file, mode):
    picture = noise(90, 120, mode="RGB").convert("L") if mode == "LA" else noise(90, 120)
    assert_equal(file, picture.convert(mode))


def test_random_sizes_and_budgets_fit_as_hugging_face():

    smart_resize = sys.modules[type(processor(QWEN2_FILE)).__module__].smart_resize
    rng = np.random.default_rng(1)
    for _ in range(3000):
        height, width = (int(v) for v in np.exp(rng.uniform(0, 9, 2)).astype(int) + 1)
        rules = (QWEN2, QWEN3)[int(rng.integers(2))]
        least = int(np.exp(rng.uniform(0, 13)))
        most = int(least * np.exp(rng.uniform(0, 6)))
        if max(height, width) / min(height, width) > 200:
            continue
        theirs = smart_resize(height, width, rules.patch * rules.merge, least, most)
        if min(theirs) > 0:  # theirs may round a side to nothing when the minimum is tiny
            assert fit(height, width, rules, least, most) == theirs


needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="the torchvision-based processor needs torchvision, which is not installed",
)


@needs_torchvision
@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
@pytest.mark.parametrize("size", [(28, 28), (70, 98), (333, 517), (640, 480)], ids=str)
def test_close_to_the_torchvision_processor(file, size):
    """Torchvision rounds weights and passes differently: 2 of 255 levels at the very most.

    That is for pictures; in saturated pixel noise, where it clips overshoot at another moment,
    single values differ by up to 12 levels.
    """
    settings = {k: v for k, v in file.items() if k != "image_processor_type"}
    theirs = torchvision_processor("Qwen2VLImageProcessor")(**settings)
    picture, rules = noise(*size, strength=8), read_rules(file)
    ours = patches(picture, rules)
    pixels, grid = run_processor(theirs, picture, rules.min_pixels, rules.max_pixels)
    assert ours.grid == grid
    levels = (ours.pixels - pixels).abs() * min(rules.std) * 255
    assert levels.max() <= 2.01 and levels.mean() < 0.3
    assert (levels > 1.1).float().mean() < 1e-3


def test_patches_are_where_the_token_map_says():
    """Token (row, col) of the merged grid holds that square of the picture."""
    rules = PixelRules(2, 2, 2, (0.0,) * 3, (1.0,) * 3, 1, 10**6)
    values = np.zeros((8, 12, 3), dtype=np.uint8)
    values[4:8, 8:12] = 255  # second row, third column of 4 x 4 pixel tokens
    cut = to_patches([values] * 2, rules)
    assert cut.grid == (1, 4, 6) and (cut.rows, cut.cols) == (2, 3)
    tokens = cut.pixels.reshape(2, 3, -1)
    lit = tokens.mean(-1)
    assert lit[1, 2] == 1 and lit.sum() == 1


# --- what may be handed over


def test_too_long_a_picture():
    with pytest.raises(ValueError, match=r"8000x10 pixels, 800 times as wide as high.*at most 200"):
        patches(Image.new("RGB", (8000, 10)), QWEN2)
    with pytest.raises(ValueError, match=r"10x8000 pixels, 800 times as high as wide.*Crop or pad"):
        fit(8000, 10, QWEN3)
    assert min(fit(10, 2000, QWEN3)) >= 32


@pytest.mark.parametrize("rules", [QWEN2, QWEN3])
def test_one_pixel(rules):
    cut = patches(torch.ones(1, 1, 1, 3), rules)
    assert cut.pixels.shape[0] == math.prod(cut.grid) > 0
    assert torch.isfinite(cut.pixels).all()
    assert fit(1, 1, rules, min_pixels=0) == (rules.patch * 2,) * 2


def test_one_bound_given_moves_the_other():
    assert fit(1000, 1000, QWEN3, max_pixels=224 * 224) == (224, 224)
    height, width = fit(100, 100, QWEN2, min_pixels=2_000_000)
    assert height * width >= 2_000_000 > QWEN2.max_pixels


def test_absurd_budgets_take_no_memory():
    with pytest.raises(ValueError, match="min_pixels is 1e[+]12, but no picture is made larger"):
        fit(64, 64, QWEN2, 10**12, 10**18)


@pytest.mark.parametrize("bounds", [(1000, 999), (-1, 5), (0, 0)])
def test_impossible_budgets(bounds):
    with pytest.raises(ValueError, match="pixel budget"):
        fit(10, 10, QWEN2, *bounds)


# --- files


def test_rules_of_both_layouts():
    old, new = read_rules(QWEN2_FILE), read_rules(QWEN3_FILE)
    assert (old.patch, old.min_pixels, old.max_pixels) == (14, 3136, 12845056)
    assert (new.patch, new.min_pixels, new.max_pixels) == (16, 65536, 16777216)
    assert new.mean == (0.5, 0.5, 0.5) and old.std == QWEN2.std


def test_rules_as_transformers_saves_them():
    nested = {"image_processor": QWEN3_FILE, "video_processor": {"patch_size": 99}}
    assert read_rules(nested) == read_rules(QWEN3_FILE)
    nulls = {**QWEN3_FILE, "min_pixels": None, "max_pixels": None, "crop_size": None}
    assert read_rules(nulls) == read_rules(QWEN3_FILE)


def test_rules_without_a_file():
    assert read_rules({}) == QWEN2
    assert read_rules({}, {"patch_size": 16, "spatial_merge_size": 2}) == QWEN3
    assert read_rules({"image_mean": [0.1] * 3}).mean == (0.1,) * 3


def test_rules_that_contradict_the_model():
    with pytest.raises(ValueError, match="patch_size is 14.*16 in config.json"):
        read_rules(QWEN2_FILE, {"patch_size": 16})
    with pytest.raises(ValueError, match="merge_size is 2.*spatial_merge_size 1 in config.json"):
        read_rules(QWEN2_FILE, {"spatial_merge_size": 1})
