"""Frames and seconds of an animated GIF without decoding it, which takes seconds for large ones."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B
CONTROL = 0xF9  # the extension that says how long the next frame stands


def gif_times(path: Path) -> tuple[int, float]:
    """Counts frames and adds up how long they stand, in hundredths of a second in the file.

    Source: the GIF89a specification, sections 17 to 27.

    Args:
        path: A GIF file. One that is cut short has the frames before the cut.

    Returns:
        Number of frames, and seconds.
    """
    frames, hundredths = 0, 0
    with path.open("rb") as file:
        _skip_table(file, file.read(13)[10:11])
        while (kind := file.read(1)) and kind[0] != TRAILER:
            if kind[0] == EXTENSION:
                label, content = file.read(1), _blocks(file, keep=4)
                if label == bytes([CONTROL]):
                    hundredths += int.from_bytes(content[1:3], "little")
            elif kind[0] == IMAGE:
                _skip_table(file, file.read(9)[8:9])
                file.read(1)  # the smallest code
                _blocks(file)
                frames += 1
            else:  # bytes between blocks mean nothing; readers pass over them
                continue
    return frames, hundredths / 100


def _skip_table(file: BinaryIO, flags: bytes) -> None:
    """Passes over the colour table that follows a descriptor with these flags."""
    if flags and flags[0] & 0x80:
        file.seek(3 * 2 ** ((flags[0] & 7) + 1), 1)


def _blocks(file: BinaryIO, keep: int = 0) -> bytes:
    """Passes over sub-blocks; the first bytes of their content."""
    content = b""
    while (size := file.read(1)) and size[0]:
        block = file.read(size[0])
        if len(content) < keep:
            content += block
    return content
