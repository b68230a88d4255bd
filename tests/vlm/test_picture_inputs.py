"""What may be handed over as a picture: upright, opaque and bounded; and what is none."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from noise_pictures import noise, patches
from PIL import Image, ImageOps, ImageSequence

from vlm.pictures import upright
from vlm.pictures.gif_times import gif_times
from vlm.pictures.images import QWEN2, to_pictures
from vlm.pictures.media_files import read_picture

ROOT = Path(__file__).resolve().parents[2]


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


def test_a_webp_that_claims_a_side_no_picture_of_it_has(tmp_path):
    """The canvas of an animation: 150 bytes would take gigabytes."""
    file = tmp_path / "wide.webp"
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(file, save_all=True, append_images=frames[1:], lossless=True)
    content = bytearray(file.read_bytes())
    at = content.index(b"VP8X") + 8 + 4
    content[at : at + 3] = (2**21).to_bytes(3, "little")
    file.write_bytes(content)
    with pytest.raises(ValueError, match="claims 2097153 x 64 pixels.*a side of over 16383"):
        read_picture(file)
