"""Sounds from files."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from ..files.given_file import find_file
from ..quoted import reason

MOST_SAMPLES = 2**28  # per channel: 100 minutes at 44.1 kHz
# How FFmpeg reads a file with such an ending, which is said: left to find it out by itself, it
# would take a list of addresses for a sound, and open them.
_DEMUXERS = {
    ".wav": "wav", ".flac": "flac", ".mp3": "mp3", ".ogg": "ogg", ".oga": "ogg", ".opus": "ogg",
    ".aac": "aac", ".m4a": "mov", ".mp4": "mov", ".mov": "mov", ".m4v": "mov", ".mkv": "matroska",
    ".webm": "matroska",
}  # fmt: skip
SOUNDS = tuple(_DEMUXERS)


def read_sound(file: str | Path) -> tuple[np.ndarray, int]:
    """The samples of a sound file and their rate.

    PCM in WAV is read by Python itself, everything else by PyAV where that is installed, as it is
    beside ComfyUI.

    Args:
        file: WAV, FLAC, MP3, Ogg, Opus or AAC; of a film its sound.

    Returns:
        float32 [C, T] in -1..1, and samples per second.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no sound that can be read here.
    """
    path = find_file(file, "sound file")
    try:
        return _read_pcm(path)
    except (EOFError, wave.Error):
        return _read_with_av(path)


def _read_pcm(path: Path) -> tuple[np.ndarray, int]:
    """PCM of 8, 16, 24 or 32 bits in WAV."""
    with wave.open(str(path), "rb") as file:
        width, channels = file.getsampwidth(), file.getnchannels()
        rate = file.getframerate()
        raw = np.frombuffer(file.readframes(MOST_SAMPLES + 1), dtype=np.uint8)
    raw = raw[: len(raw) // (width * channels) * width * channels]
    if width == 1:  # unsigned
        values = (raw.astype(np.float32) - 128) / 128
    else:
        # Into the high bytes of 32 bits, little-endian.
        whole = np.zeros((len(raw) // width, 4), dtype=np.uint8)
        whole[:, 4 - width :] = raw.reshape(-1, width)
        values = whole.view("<i4")[:, 0].astype(np.float32) * np.float32(2**-31)
    return values.reshape(-1, channels).T, rate


def _read_with_av(path: Path) -> tuple[np.ndarray, int]:
    demuxer = _DEMUXERS.get(path.suffix.lower())
    if demuxer is None:
        raise ValueError(
            f"{path} is not a sound file by its name. Known are {', '.join(SOUNDS)}; give it the "
            "ending that it should have."
        )
    try:
        import av
    except ImportError as error:
        raise ValueError(
            f"{path} is not PCM in WAV, and reading anything else needs PyAV, which is not "
            "installed. Run `pip install av`, or save the sound as WAV."
        ) from error
    parts: list[np.ndarray] = []
    samples = 0
    try:
        options = {"protocol_whitelist": "file"}
        with av.open(str(path), format=demuxer, options=options) as container:
            if not container.streams.audio:
                raise ValueError(f"{path} has no sound in it. Choose a file that has.")
            stream = container.streams.audio[0]
            as_float = av.AudioResampler(format="fltp")
            for frame in container.decode(stream):
                for part in as_float.resample(frame):
                    parts.append(part.to_ndarray())
                    samples += part.samples
                if samples > MOST_SAMPLES:
                    break
            rate = stream.rate
    except (av.FFmpegError, OSError, MemoryError) as error:
        raise ValueError(
            f"{path} is not a sound that can be read ({reason(error)}). Save it as WAV or FLAC."
        ) from error
    if not parts:
        raise ValueError(f"{path} holds no samples. Choose a file with a sound in it.")
    return np.concatenate(parts, axis=1), rate
