"""A picture of Pillow as people see it: upright, opaque, and no larger than anything looks at."""

from __future__ import annotations

import math

from PIL import Image, ImageOps

# The largest area that can be asked for (`max_pixels`). A larger picture is shrunk as it is read:
# a few kB of a file must not fill the memory.
LARGEST = 64 * 1024 * 1024
_BASE = {"La": "LA", "RGBa": "RGBA"}  # premultiplied modes, which Pillow turns into nothing else
_STRIP = 1024 * 1024  # pixels that are converted at once


def make_upright(picture: Image.Image) -> Image.Image:
    """Turned as its camera was held, on white where it is transparent.

    Args:
        picture: Of any mode.

    Returns:
        Mode RGB; of modes with 16 or 32 bits per pixel (`I...`, `F`) that mode. Over `LARGEST`
        pixels it is shrunk by a whole factor.
    """
    orientation = _orientation(picture)
    if picture.mode.startswith(("I", "F")):
        opaque = picture.copy()
    elif picture.width * picture.height > LARGEST:
        opaque = _shrink(picture)
    else:
        opaque = _on_white(picture)
    if orientation == 1:
        return opaque
    opaque.getexif()[0x0112] = orientation
    return ImageOps.exif_transpose(opaque)


def _orientation(picture: Image.Image) -> int:
    """How the camera was held, as EXIF has it; 1 = upright, also where that cannot be read."""
    try:
        return picture.getexif().get(0x0112, 1)
    except Exception:  # what damaged EXIF ends in depends on the damage; the pixels are there
        return 1


def _on_white(picture: Image.Image) -> Image.Image:
    """Mode RGB; a colour that is partly transparent is mixed with white."""
    if picture.mode in _BASE:
        picture = picture.convert(_BASE[picture.mode])
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    out = Image.new("RGB", picture.size)
    rows = max(1, _STRIP // max(picture.width, 1))
    for top in range(0, picture.height, rows):  # all at once it would be there four times
        strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        colour = strip.convert("RGBA")
        white = Image.new("RGBA", colour.size, "white")
        out.paste(Image.alpha_composite(white, colour).convert("RGB"), (0, top))
    return out


def _shrink(picture: Image.Image) -> Image.Image:
    """Averages squares of pixels, strip by strip: a second whole copy would be gigabytes."""
    least = math.ceil(math.sqrt(picture.width * picture.height / LARGEST))
    picture.draft("RGB", (picture.width // least, picture.height // least))  # JPEG, as it decodes
    factor = math.ceil(math.sqrt(picture.width * picture.height / LARGEST))
    if factor == 1:
        return _on_white(picture)
    width, height = (-(-side // factor) for side in picture.size)
    out = Image.new("RGB", (width, height))
    rows = max(1, _STRIP // picture.width // factor) * factor
    for top in range(0, picture.height, rows):
        strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        if strip.mode == "1":
            strip = strip.convert("L")
        elif strip.mode != "L":
            strip = _on_white(strip)
        out.paste(strip.reduce(factor), (0, top // factor))
    return out
