"""Pictures, videos and words from files."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image, ImageOps, ImageSequence

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
MOVIES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
FOLDER_FPS = 24.0


def read_text(file: str) -> str:
    """A prompt from a UTF-8 file, without the line break at its end.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not UTF-8.
    """
    path = _there(file, "text file")
    try:
        return path.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text in UTF-8 ({error}). Save it as UTF-8.") from error


def read_picture(file: str) -> Image.Image:
    """A picture from a file, turned the way its camera was held.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not a picture that Pillow reads.
    """
    with _open(_there(file, "picture")) as picture:
        return _decoded(picture, file)


def read_video(place: str, fps: float | None) -> tuple[list[Image.Image], float]:
    """The frames of a video and its frames per second.

    Args:
        place: a folder of picture files, in the order of their names (9 before 10), or an animated
            GIF, WebP or PNG.
        fps: frames per second; None = as the animation says, 24 for a folder.

    Raises:
        FileNotFoundError: no such place.
        ValueError: no picture in it, a movie file, or a file that is not a picture.
    """
    path = _there(place, "video")
    if path.is_dir():
        files = [file for file in path.iterdir() if file.suffix.lower() in PICTURES]
        if not files:
            raise ValueError(f"The folder {place} holds no picture ({', '.join(PICTURES)}).")
        frames = [read_picture(str(file)) for file in sorted(files, key=natural_order)]
        return frames, fps or FOLDER_FPS
    if path.suffix.lower() in MOVIES:
        raise ValueError(
            f"{place} is a movie file, which is not read here. Make a folder of its frames first, "
            f"such as with: ffmpeg -i {path.name} frames/%05d.png"
        )
    with _open(path) as animation:
        frames, seconds = [], 0.0
        for frame in ImageSequence.Iterator(animation):
            frames.append(_decoded(frame, place))
            seconds += frame.info.get("duration", 0) / 1000
    return frames, fps or (len(frames) / seconds if seconds else FOLDER_FPS)


def _there(file: str, what: str) -> Path:
    path = Path(file)
    if not path.exists():
        raise FileNotFoundError(f"There is no {what} {file}. Name one that exists.")
    return path


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _decoded(picture: Image.Image, file: str) -> Image.Image:
    """Its pixels, in memory; transparent ones keep their colour, as in ComfyUI's Load Image."""
    try:
        turned = ImageOps.exif_transpose(picture)
        return turned.copy() if turned.mode.startswith(("I", "F")) else turned.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: str | Path, error: Exception) -> ValueError:
    return ValueError(
        f"{file} is not a picture that can be read ({error}). Expected PNG, JPEG, WebP, GIF, BMP "
        "or TIFF, whole."
    )


def natural_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts frame9 before frame10, and frame09 always on the same side of frame9."""
    parts = re.split(r"([0-9]+)", file.name)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)], file.name
