"""A sound for tests: two tones, one in each channel, at a rate that no model hears at."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

RATE = 22050


def write_sound(file: Path, samples: int) -> None:
    """Writes so many samples of both channels as WAV of 16 bits."""
    at = np.arange(samples) / RATE
    both = np.stack([np.sin(880 * np.pi * at), np.sin(660 * np.pi * at)], axis=1)
    with wave.open(str(file), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((both * 20000).astype("<i2").tobytes())
