"""Pictures, videos and words from files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from PIL import Image, ImageSequence

from ..files.given_file import find_file, find_there
from ..quoted import reason
from .gif_times import gif_times
from .upright import make_upright

PICTURES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif",
)  # fmt: skip
MOVIES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
FOLDER_FPS = 24.0
# Of an animated picture, 4096 x 4096: Pillow keeps several canvases of that size at once.
MOST_OF_FRAMES = 2**24
WEBP_SIDE = 16383  # of its pictures; the canvas of an animation may claim more
# What Pillow may read, whatever the file is called: it would start other programs for PostScript.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF")
# What Pillow and the libraries below it raise for damaged files.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Image.DecompressionBombError,
)


def read_text(file: str) -> str:
    """A prompt from a UTF-8 file, without the line break at its end.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not a file, or not UTF-8.
    """
    path = find_file(file, "text file")
    try:
        return path.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not text in UTF-8 ({reason(error)}). Save it as UTF-8."
        ) from error


def read_picture(file: str | Path) -> Image.Image:
    """A picture from a file, turned the way its camera was held, on white where it is transparent.

    Args:
        file: PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF, whatever it is called.

    Returns:
        Mode RGB, or that of 16 or 32 bits per pixel; over 64 megapixels it is shrunk.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not a picture that Pillow reads.
    """
    with _open(find_file(file, "picture")) as picture:
        return _decoded(picture, file)


class Film(Sequence[Image.Image]):
    """The frames of an animated picture or of a folder, each read when it is looked at.

    Attributes:
        name: What messages call it.
    """

    def __init__(self, name: str, files: Sequence[Path], frames: int | None = None):
        """Opens nothing.

        Args:
            name: What messages call it.
            files: One for each frame; or one animated picture.
            frames: Its frames; None = each file is one.
        """
        self.name = name
        self._files = list(files)
        self._frames = frames

    def __len__(self) -> int:
        return len(self._files) if self._frames is None else self._frames

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...

    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        if isinstance(index, slice):
            return self.pick(range(len(self))[index])
        return self.pick([range(len(self))[index]])[0]

    def __iter__(self) -> Iterator[Image.Image]:
        return self._read(range(len(self)))

    def pick(self, indices: Sequence[int]) -> list[Image.Image]:
        """Some frames, origin 0, in ascending order: an animation is read once, front to back.

        Raises:
            ValueError: A frame that cannot be read.
        """
        return list(self._read(indices))

    def _read(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        if self._frames is None:
            for index in indices:
                yield read_picture(self._files[index])
            return
        with _open(self._files[0]) as animation:
            for index in indices:
                try:
                    animation.seek(index)
                except _DAMAGE as error:
                    raise _unreadable(self.name, error) from error
                yield _decoded(animation, self.name)


def read_video(place: str | Path, fps: float | None) -> tuple[Film, float]:
    """The frames of a video and its frames per second.

    Args:
        place: a folder of picture files, in the order of their names (9 before 10), or an animated
            GIF, WebP or PNG.
        fps: frames per second; None = as the animation says, 24 for a folder.

    Returns:
        The frames, which are decoded only when they are asked for.

    Raises:
        FileNotFoundError: no such place.
        ValueError: no picture in it, a movie file, or a file that is not a picture.
    """
    path = find_there(place, "video")
    if path.is_dir():
        files = frames_in(path)
        if not files:
            raise ValueError(f"The folder {place} holds no picture ({', '.join(PICTURES)}).")
        return Film(str(place), files), fps or FOLDER_FPS
    if path.suffix.lower() in MOVIES:
        raise ValueError(
            f"{place} is a movie file, which is not read here. Make a folder of its frames first, "
            f"such as with: ffmpeg -i {path.name} frames/%05d.png"
        )
    frames, seconds = _count_frames(find_file(place, "video"))
    return Film(str(place), [path], frames), fps or (frames / seconds if seconds else FOLDER_FPS)


def frames_in(folder: Path) -> list[Path]:
    """The picture files of a folder, in the order of a video's frames.

    Raises:
        ValueError: it may not be looked into.
    """
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES]
    except OSError as error:
        raise ValueError(f"The folder {folder} cannot be read: {reason(error)}.") from error
    return sorted(files, key=natural_order)


def _count_frames(path: Path) -> tuple[int, float]:
    """Frames of an animation and its seconds; one frame is held at a time."""
    with _open(path) as animation:
        if animation.width * animation.height > MOST_OF_FRAMES:
            raise ValueError(
                f"{path} has frames of {animation.width} x {animation.height} pixels, at most "
                f"{MOST_OF_FRAMES} are read of an animated picture. Shrink it, or make a folder of "
                "its frames."
            )
        if animation.format == "GIF":
            return gif_times(path)
        frames, seconds = 0, 0.0
        try:
            for frame in ImageSequence.Iterator(animation):
                if not isinstance(frame.info.get("duration"), int | float):
                    frame.load()  # WebP tells how long a frame stands when it is decoded
                frames += 1
                seconds += frame.info.get("duration", 0) / 1000
        except _DAMAGE as error:
            raise _unreadable(path, error) from error
    return frames, seconds


def _open(path: Path) -> Image.Image:
    Image.init()  # which of them this Pillow has is known afterwards
    try:
        opened = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    if opened.format == "WEBP" and max(opened.size) > WEBP_SIDE:
        raise ValueError(
            f"{path} claims {opened.width} x {opened.height} pixels, and no picture of WebP has a "
            f"side of over {WEBP_SIDE}. Save it as PNG, or take another file."
        )
    return opened


def _decoded(picture: Image.Image, file: str | Path) -> Image.Image:
    """Its pixels, in memory."""
    try:
        return make_upright(picture)
    except _DAMAGE as error:
        raise _unreadable(file, error) from error


def _unreadable(file: str | Path, error: Exception) -> ValueError:
    return ValueError(
        f"{file} is not a picture that can be read ({reason(error)}). Expected PNG, JPEG, WebP, "
        "GIF, BMP, TIFF or AVIF, whole."
    )


def natural_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts frame9 before frame10, and frame09 always on the same side of frame9."""
    parts = re.split(r"([0-9]+)", file.name)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)], file.name
