"""A picture drawn by the program itself, for the demo: a red house by a lake at sunset."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFilter

SIZE = (640, 448)  # 20 x 14 tokens of 32 pixels
PROMPT = "a red house by a lake at sunset, painted in warm colours"
OTHER_PROMPT = "the same place in winter, deep snow and a clear sky"

_FINE = 2  # drawn larger and reduced, so that edges are smooth
_SKY = ((46, 58, 110), (226, 120, 96), (252, 208, 140))
_SHORE = 0.66  # of the height


def draw_picture() -> Image.Image:
    """The scene.

    Returns:
        RGB, `SIZE` pixels; the same bits every time on one version of Pillow.
    """
    width, height = (side * _FINE for side in SIZE)
    shore = int(height * _SHORE)
    picture = _sky(width, shore)
    _sun(picture, width * 0.72, shore * 0.72, height * 0.09)
    draw = ImageDraw.Draw(picture)
    for base, swing, colour in (
        (0.80, 0.13, (122, 84, 120)),
        (0.92, 0.10, (78, 66, 98)),
        (0.99, 0.05, (44, 62, 66)),
    ):
        draw.polygon(_hill(width, shore, base, swing), fill=colour)
    _house(draw, width * 0.24, shore, height * 0.17)
    for x, tall in ((0.06, 0.20), (0.12, 0.26), (0.44, 0.16), (0.50, 0.22), (0.90, 0.24)):
        _tree(draw, width * x, shore, height * tall)
    whole = Image.new("RGB", (width, height))
    whole.paste(picture, (0, 0))
    whole.paste(_water(picture, height - shore), (0, shore))
    return whole.resize(SIZE, Image.Resampling.LANCZOS)


def _mix(a: tuple[int, ...], b: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def _sky(width: int, height: int) -> Image.Image:
    """Night blue above, sunset orange at the horizon."""
    sky = Image.new("RGB", (1, height))
    for y in range(height):
        share = 2 * y / height
        lower = share >= 1
        sky.putpixel((0, y), _mix(_SKY[lower], _SKY[1 + lower], share - lower))
    return sky.resize((width, height))


def _sun(picture: Image.Image, x: float, y: float, radius: float) -> None:
    """The sun with a soft halo."""
    for reach, strength in ((2.4, 70), (1.6, 90), (1.0, 255)):
        mask = Image.new("L", picture.size)
        r = radius * reach
        ImageDraw.Draw(mask).ellipse((x - r, y - r, x + r, y + r), fill=strength)
        if reach > 1:
            mask = mask.filter(ImageFilter.GaussianBlur(radius * 0.3))
        picture.paste((255, 240, 196), mask=mask)


def _hill(width: int, shore: int, base: float, swing: float) -> list[tuple[float, float]]:
    """Outline of a row of hills, from two sine waves."""
    line = []
    for x in range(0, width + 1, 4):
        t = x / width * 2 * math.pi
        wave = 0.6 * math.sin(t * 1.3 + base * 9) + 0.4 * math.sin(t * 2.9 + base * 21)
        line.append((x, shore * (base - swing * 0.5 * (1 + wave))))
    return [*line, (width, shore), (0, shore)]


def _house(draw: ImageDraw.ImageDraw, x: float, floor: float, tall: float) -> None:
    """Red walls, dark roof, lit windows."""
    wide, wall, red = tall * 1.5, tall * 0.62, (186, 50, 44)
    chimney = (x + wide * 0.72, floor - tall * 1.2, x + wide * 0.82, floor - wall)
    draw.rectangle(chimney, fill=(98, 52, 46))
    draw.rectangle((x, floor - wall, x + wide, floor), fill=red)
    for board in range(1, 6):
        y = floor - wall * board / 6
        draw.line((x, y, x + wide, y), fill=(160, 40, 38), width=2)
    eaves = tall * 0.12
    left, right = (x - eaves, floor - wall), (x + wide + eaves, floor - wall)
    draw.polygon([left, (x + wide / 2, floor - tall * 1.15), right], fill=(66, 44, 52))
    for at in (0.10, 0.68):
        box = (x + wide * at, floor - wall * 0.72, x + wide * (at + 0.22), floor - wall * 0.34)
        draw.rectangle(box, fill=(255, 222, 130), outline=(245, 240, 230), width=5)
    draw.rectangle(
        (x + wide * 0.42, floor - wall * 0.68, x + wide * 0.57, floor), fill=(92, 46, 40)
    )


def _tree(draw: ImageDraw.ImageDraw, x: float, floor: float, tall: float) -> None:
    """A fir of three tiers."""
    trunk = tall * 0.035
    draw.rectangle((x - trunk, floor - tall * 0.2, x + trunk, floor), fill=(70, 48, 40))
    for tier in range(3):
        top, half = tall * (1 - 0.25 * tier), tall * (0.13 + 0.05 * tier)
        foot = floor - tall * (0.62 - 0.25 * tier)
        shade = (30 + 5 * tier, 66 + 6 * tier, 58 + 3 * tier)
        draw.polygon([(x, floor - top), (x - half, foot), (x + half, foot)], fill=shade)


def _water(picture: Image.Image, height: int) -> Image.Image:
    """The lake: the scene upside down, darker, blurred and rippled."""
    width = picture.width
    mirror = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).crop((0, 0, width, height))
    mirror = mirror.filter(ImageFilter.GaussianBlur(5))
    water = Image.blend(mirror, Image.new("RGB", mirror.size, (40, 60, 96)), 0.38)
    rippled = Image.new("RGB", water.size)
    for y in range(height):
        far = y / height
        shift = round((2 + 12 * far) * math.sin(y * (0.5 - 0.3 * far)))
        row = water.crop((0, y, width, y + 1))
        rippled.paste(row, (0, y))
        rippled.paste(row, (shift, y))
    return rippled
