"""Our preprocessing against the families' own Hugging Face processors, and bad pictures."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hugging_face import HAS_PIL_MODULES, pil_module, torchvision_processor
from PIL import Image, ImageOps, ImageSequence

from vlm.pictures import upright
from vlm.pictures.gif_times import gif_times
from vlm.pictures.images import QWEN2, QWEN3, PixelRules, fit, read_rules, to_pictures
from vlm.pictures.patches import to_patches
from vlm.pictures.preprocessor import PatchPreprocessor

ROOT = Path(__file__).resolve().parents[2]


def patches(picture, rules, least=None, most=None):
    """One picture the way the model sees it."""
    (seen,) = PatchPreprocessor(rules, None).prepare_images(picture, least, most)
    return seen.patches()


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


def noise(height, width, seed=0, mode="RGB", strength=60):
    """A picture with edges, gradients and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 200 // width, y * 200 // height, (x // 9 + y // 7) % 2 * 99], -1) + 28
    grain = rng.integers(-strength, strength, base.shape)
    values = np.clip(base + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(values).convert(mode)


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
    import sys

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


def test_tensor_and_pil_are_the_same_picture():
    picture = noise(50, 40)
    tensor = torch.from_numpy(np.array(picture)).float() / 255
    for given in (tensor, tensor[None], [tensor], tensor.double(), [tensor[None]]):
        (back,) = to_pictures(given)
        assert back.mode == "RGB" and np.array_equal(np.array(back), np.array(picture))
    assert torch.equal(patches(tensor, QWEN2).pixels, patches(picture, QWEN2).pixels)


def test_small_overshoot_is_clipped_and_values_are_rounded():
    tensor = torch.tensor([-0.3, 0.0, 0.5, 1.0, 1.4, 100.4 / 255]).reshape(1, 6, 1)
    (picture,) = to_pictures(tensor)
    assert np.array(picture)[0, :, 0].tolist() == [0, 0, 128, 255, 255, 100]


def test_a_batch_is_several_pictures_in_order():
    batch = torch.stack([torch.full((4, 5, 3), i / 255) for i in range(3)])
    found = to_pictures([batch, noise(6, 7), batch[0], torch.zeros(9, 8)])
    assert [p.size for p in found] == [(5, 4)] * 3 + [(7, 6), (5, 4), (8, 9)]
    assert [p.getpixel((0, 0))[0] for p in found[:3]] == [0, 1, 2]
    assert to_pictures(None) == [] and to_pictures([]) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.linspace(0, 255, 48), "from 0 to 255, expected 0..1.*Divide it by 255"),
        (torch.linspace(-1, 1, 48), "from -1 to 1, expected 0..1.*Scale it"),
    ],
)
def test_floats_far_outside_are_refused(values, words):
    for picture in (values.reshape(4, 4, 3), values.reshape(4, 4, 3).numpy()):
        with pytest.raises(ValueError, match=words):
            to_pictures(picture)


def test_tensors_larger_than_any_picture_are_refused_without_their_memory():
    for shape in [(10**6, 10**6), (10**6, 10**6, 3), (10**5, 512, 512, 3)]:
        with pytest.raises(ValueError, match="is larger than any picture"):
            to_pictures(torch.zeros(1).expand(shape))
    assert to_pictures(torch.zeros(1).expand(3, 64, 64, 3))[2].size == (64, 64)


def test_a_picture_with_damaged_exif_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4), "red").save(tmp_path / "whole.webp", exif=exif, lossless=True)
    whole = (tmp_path / "whole.webp").read_bytes()
    assert to_pictures(tmp_path / "whole.webp")[0].size == (4, 8)
    start = whole.index(b"EXIF") + 8
    for damage in range(start, len(whole)):
        broken = whole[:damage] + bytes([whole[damage] ^ 0xFF]) + whole[damage + 1 :]
        (tmp_path / "broken.webp").write_bytes(broken)
        seen = to_pictures(tmp_path / "broken.webp")[0]
        assert {*seen.size} == {4, 8} and seen.getpixel((0, 0))[0] >= 254


def test_a_list_that_holds_itself_is_refused():
    ring: list = []
    ring.append(ring)
    with pytest.raises(ValueError, match="lie in one another, 8 deep"):
        to_pictures(ring)
    assert to_pictures([None, [None]]) == []


def test_arrays_and_bytes_are_the_same_picture(tmp_path):
    picture = noise(9, 7)
    array = np.array(picture)
    picture.save(tmp_path / "picture.png")
    as_float = (array / 255).astype(np.float64)
    ways = [array, array[::-1][::-1], torch.from_numpy(array), array[None], as_float]
    ways += [as_float.astype(">f4"), tmp_path / "picture.png", str(tmp_path / "picture.png")]
    for given in ways:
        (back,) = to_pictures(given)
        assert back.mode == "RGB" and np.array_equal(np.array(back), array), type(given)


def test_what_is_transparent_lies_on_white(tmp_path):
    rgba = noise(5, 6, mode="RGBA")
    rgba.putalpha(51)  # a fifth
    colour = np.array(rgba)[..., :3].astype(float)
    wanted = colour * 0.2 + 255 * 0.8
    rgba.save(tmp_path / "a.png")
    tensor = torch.from_numpy(np.array(rgba)).float() / 255
    for given in (rgba, tmp_path / "a.png", tensor, np.array(rgba), rgba.convert("RGBa")):
        (back,) = to_pictures(given)
        assert back.mode == "RGB" and np.abs(np.array(back) - wanted).max() <= 1.5
    rgba.putalpha(255)
    assert np.array_equal(np.array(to_pictures(rgba)[0]), colour)
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.info["transparency"] = 1
    assert to_pictures(palette)[0].getpixel((0, 0)) == (255, 255, 255)
    assert to_pictures(Image.new("La", (3, 2), (0, 0)))[0].getpixel((0, 0)) == (255, 255, 255)


def test_grey_is_repeated():
    grey = torch.rand(5, 6)
    one = to_pictures(grey)[0].tobytes()
    assert one == to_pictures(grey[..., None])[0].tobytes()
    assert one == to_pictures(grey[..., None].expand(5, 6, 3))[0].tobytes()


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_as_its_camera_was_held(tmp_path, turn):
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
    exif = Image.Exif()
    exif[0x0112] = turn
    picture.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        wanted = np.array(ImageOps.exif_transpose(opened).convert("RGB"))
        for given in (opened, tmp_path / "a.png"):
            assert np.array_equal(np.array(to_pictures(given)[0]), wanted)


@pytest.mark.parametrize("durations", [[40] * 5, [30, 100, 20, 250, 70], [0] * 5])
def test_frames_and_times_of_a_gif_are_pillows(tmp_path, durations):
    """With a colour table of its own for each frame, comments and loops."""
    frames = [noise(20, 30).quantize(16 + 8 * number) for number in range(5)]
    more = {"append_images": frames[1:], "duration": durations, "loop": 0, "comment": b"x" * 600}
    frames[0].save(tmp_path / "a.gif", save_all=True, **more)
    seconds, count = 0.0, 0
    with Image.open(tmp_path / "a.gif") as opened:
        for frame in ImageSequence.Iterator(opened):
            seconds, count = seconds + frame.info.get("duration", 0) / 1000, count + 1
    assert gif_times(tmp_path / "a.gif") == (count, pytest.approx(seconds)) and count == 5


def test_a_huge_picture_is_shrunk_as_it_is_read(tmp_path, monkeypatch):
    picture = noise(64, 40, mode="RGBA")
    for name in ("a.png", "a.tif"):
        picture.save(tmp_path / name)
    whole = to_pictures(tmp_path / "a.png")[0]
    monkeypatch.setattr(upright, "_STRIP", 300)
    for name in ("a.png", "a.tif"):  # in strips it is the same picture
        assert to_pictures(tmp_path / name)[0].tobytes() == whole.tobytes()
    monkeypatch.setattr(upright, "LARGEST", 700)
    monkeypatch.setattr(upright, "_STRIP", 300)  # four strips and a rest
    for name in ("a.png", "a.tif"):
        (small,) = to_pictures(tmp_path / name)
        assert small.size == (20, 32)
        near = np.array(whole.reduce(2)).astype(int)
        assert np.abs(np.array(small) - near).max() <= 1
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.convert("RGB").save(tmp_path / "a.jpg", exif=exif)
    assert to_pictures(tmp_path / "a.jpg")[0].size == (32, 20)


MEASURED = """
import resource
from PIL import Image
from vlm.pictures.upright import make_upright

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

picture = Image.effect_noise((4096, 4096), 64).convert({mode!r})
before = peak()
make_upright(picture)
print((peak() - before) / (4 * 4096 * 4096))
"""


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_transparent_is_mixed_in_one_copy(mode):
    """All at once takes four; 16 megapixels take 64 MB, whose peak is measured alone."""
    pytest.importorskip("resource")
    run = [sys.executable, "-c", MEASURED.format(mode=mode)]
    made = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    assert float(made.stdout) < 1.7


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_sixteen_bit_grey(mode):
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    picture = Image.fromarray(values.astype(np.int32) if mode == "I" else values)
    assert picture.mode == mode
    assert np.array(to_pictures(picture)[0])[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (torch.full((4, 4, 3), math.nan), "NaN or Inf"),
        (torch.full((1, 4, 4, 3), math.inf), "NaN or Inf"),
        (torch.zeros(4, 4, 3, dtype=torch.int32), "int32.*0..1.*uint8"),
        (np.zeros((4, 4, 3), dtype=np.uint16), "array of uint16"),
        (np.array([["a"]]), "array of <U1"),
        (torch.zeros(4, 4, 3).to_sparse(), "sparse"),
        (torch.zeros(4, 4, 3, device="meta"), "without data"),
        (torch.zeros(0, 4, 4, 3), "empty"),
        (torch.zeros(4, 0, 3), "empty"),
        (torch.zeros(3, 8, 8), "channels last"),
        (torch.zeros(4, 4, 2), "channels last"),
        (torch.zeros(5), "not a picture"),
        (torch.zeros(1, 1, 4, 4, 3), "not a picture"),
    ],
)
def test_what_is_no_picture(bad, words):
    with pytest.raises(ValueError, match=words):
        to_pictures([bad])


@pytest.mark.parametrize("thing", [{1}, 5, b"picture", {"image": 1}])
def test_other_types(thing):
    with pytest.raises(TypeError, match="A picture of type.*PIL picture"):
        to_pictures([thing])


def test_a_path_that_leads_nowhere(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no picture none.png"):
        to_pictures("none.png")
    for name in ("x" * 5000, "a\0b", "a/" * 5000, "\ud800", "a\n\x1b[31m"):
        with pytest.raises(
            FileNotFoundError, match="There is no picture '.*Name another"
        ) as caught:
            to_pictures(name)
        assert len(str(caught.value)) < 300 and str(caught.value).isprintable()
    with pytest.raises(ValueError, match="is a folder"):
        to_pictures(tmp_path)


# --- sizes and budgets


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
