"""Sounds that tests make, and files of them."""

import wave

import numpy as np
import torch


def tone(seconds, rate, hertz=440.0):
    """A sine, float32."""
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def write_wav(file, channels, rate, width=2):
    """PCM of [C, T]."""
    loudest = 2 ** (8 * width - 1) - 1
    whole = np.round(np.ascontiguousarray(channels.T).astype(np.float64) * loudest).astype("<i8")
    if width == 1:
        raw = (whole + 128).astype(np.uint8).tobytes()
    else:
        raw = whole.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    with wave.open(str(file), "wb") as out:
        out.setnchannels(channels.shape[0])
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(raw)
    return file


def noise(seconds, rate):
    """A sound, the same everywhere."""
    at = torch.arange(int(seconds * rate))
    return (((at * 7919) % 2003).float() / 1001.5 - 1) * 0.3
