"""Picture files: formats, modes, EXIF, sizes, declared sizes, damage; frames; tensors."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vlm.pictures.media_files import read_picture, read_text, read_video
from vlm.prompts.system_file import read_system_prompt

from ..case import Case, Make, line_of
from ..draw import Draw, write_text
from .models import tiny_model

FORMATS = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"), "jpeg": ("L", "RGB", "CMYK"),
    "gif": ("L", "P", "RGB"), "bmp": ("1", "L", "P", "RGB", "RGBA"), "webp": ("RGB", "RGBA"),
    "tiff": ("1", "L", "LA", "P", "RGB", "RGBA", "I", "F", "CMYK", "LAB", "I;16"),
    "ppm": ("RGB", "L"), "tga": ("RGB",), "ico": ("RGBA",), "eps": ("RGB",), "dds": ("RGB",),
    "sgi": ("RGB",), "pcx": ("RGB",), "jpeg2000": ("RGB",), "im": ("RGB",), "icns": ("RGBA",),
}  # fmt: skip
SIZES = ((1, 1), (1, 300), (3000, 1), (64, 64), (33, 77), (0, 0), (2, 2), (700, 500))
MOST_PIXELS = 2**18  # the model's own budget would have it look at 16 million for minutes
POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(it-ran) (w) file closefile showpage\n"
)


def prepare(base: Path) -> Make:
    """A model that looks at them."""
    model = tiny_model(base)

    def make(draw: Draw, room: Path) -> Case:
        kind = draw.random()
        if kind < 0.15:
            given = _in_memory(draw)
            return Case(line_of("memory", _told(given)), lambda: model.encode("a", given).layer(1))
        if kind < 0.25:
            return _words(draw, room)
        name, data = _file(draw)
        file = room / f"a.{draw.one(name, 'png', 'jpg', 'txt')}"
        file.write_bytes(data)
        if kind < 0.45:
            return Case(line_of("video", file.name, len(data)), lambda: _frames(file, draw))
        encodes = draw.chance(0.3)

        def run() -> Any:
            picture = read_picture(file)
            return (
                model.encode("a", picture, max_pixels=MOST_PIXELS).layer(1)
                if encodes
                else picture.getpixel((0, 0)) and None
            )

        return Case(line_of(name, file.name, len(data), data[:40]), run)

    return make


def _frames(file: Path, draw: Draw) -> None:
    film, fps = read_video(file, draw.one(None, 1.0, 24.0))
    if not 0 < fps < float("inf"):
        raise AssertionError(f"{fps} frames per second")
    for frame in film.pick(range(min(3, len(film)))):
        frame.load()


def _words(draw: Draw, room: Path) -> Case:
    """Text files of prompts, and system prompts."""
    file = room / "text.txt"
    if draw.chance(0.5):
        write_text(file, draw.text())
    else:
        file.write_bytes(
            draw.one(draw.randbytes(50), b"\xff\xfea\0b\0", b"\xef\xbb\xbfa", b"", b"a" * 10**6)
        )
    read = draw.one(read_text, read_system_prompt)
    return Case(line_of(read.__name__, file.read_bytes()), lambda: read(str(file)))


def _in_memory(draw: Draw) -> Any:
    """Pictures as the library takes them: PIL, tensors, arrays, lists of these."""
    kind = draw.randint(0, 4)
    size = draw.choice(SIZES)
    if kind == 0:
        modes = [
            "1",
            "L",
            "P",
            "RGB",
            "RGBA",
            "CMYK",
            "YCbCr",
            "LAB",
            "HSV",
            "I",
            "F",
            "LA",
            "PA",
            "RGBX",
            "RGBa",
            "La",
            "I;16",
        ]
        return Image.new(draw.choice(modes), size)
    if kind == 1:
        return draw.odd_tensor()
    if kind == 2:
        channels = draw.one(0, 1, 2, 3, 4, 5)
        shape = (
            *[draw.one(0, 1, 2)] * draw.randint(0, 1),
            draw.one(1, 8, 40),
            draw.one(1, 8, 40),
            channels,
        )
        return draw.tensor(*shape, most=draw.one(0.3, 1, 100))
    if kind == 3:
        kinds = ("uint8", "float32", "int64", "bool", "U2", "object", "complex64", "float16")
        return np.zeros([draw.randint(0, 30) for _ in range(draw.randint(0, 4))], draw.one(*kinds))
    return [_in_memory(draw) for _ in range(draw.randint(0, 2))]


def _told(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"tensor{list(value.shape)}"
    return f"array{value.shape}" if isinstance(value, np.ndarray) else repr(value)


def _file(draw: Draw) -> tuple[str, bytes]:
    if draw.chance(0.12):
        return "png", _declared(draw)
    if draw.chance(0.05):
        return "png", POSTSCRIPT
    name = draw.choice(list(FORMATS))
    try:
        data = _drawn(draw, name)
    except Exception:  # whatever Pillow says of what it writes in no such file
        name, data = "png", _declared(draw)
    return name, draw.cut(data) if draw.chance(0.5) else data


def _drawn(draw: Draw, name: str) -> bytes:
    size = draw.choice([size for size in SIZES if size != (0, 0)])
    picture = Image.new(draw.choice(FORMATS[name]), size)
    more: dict[str, Any] = {}
    if name in ("jpeg", "png", "webp", "tiff") and draw.chance(0.5):
        exif = Image.Exif()
        exif[0x0112] = draw.one(1, 3, 6, 8, 0, 9, 65535)
        more["exif"] = draw.cut(exif.tobytes()) if draw.chance(0.4) else exif.tobytes()
    if name in ("gif", "png", "webp", "tiff") and draw.chance(0.4):
        frames = [Image.new(picture.mode, size) for _ in range(draw.one(1, 2, 20))]
        more |= {"save_all": True, "append_images": frames, "duration": draw.one(0, 1, 100)}
    if picture.mode in ("P", "L", "RGB") and name in ("png", "gif"):
        more["transparency"] = draw.one(0, 1) if picture.mode != "RGB" else (0, 0, 0)
    out = io.BytesIO()
    picture.save(out, name, **more)
    return out.getvalue()


def _declared(draw: Draw) -> bytes:
    """A PNG of a few bytes that says how large it is."""
    sides = [draw.one(0, 1, 1000, 20_000, 65_535, 10**6, 2**31 - 1, 2**32 - 1) for _ in range(2)]
    depth, colour = draw.one(1, 8, 16), draw.one(0, 2, 3, 4, 6, 7)
    head = struct.pack(">IIBBBBB", *sides, depth, colour, 0, 0, 0)
    body = zlib.compress(b"\0" * draw.one(10, 10**5, 10**7))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(*one) for one in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
