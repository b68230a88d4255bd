"""Sounds as people have them, made one channel at the rate that a model hears."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..quoted import told
from .sound_files import MOST_SAMPLES, read_sound

LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000  # samples per second
_EXPECTED = (
    "a mapping with `waveform` [B, C, T] and `sample_rate`, a pair of samples and rate, the path "
    "of a sound file, or a list of these"
)


def to_waves(audio: Any, rate: int) -> list[np.ndarray]:
    """Sounds in any form, at one rate, their channels averaged.

    Args:
        audio: ComfyUI's AUDIO, a mapping with `waveform` (float -1..1, tensor or array [T], [C, T]
            or [B, C, T]; a batch is several sounds) and `sample_rate`; a pair of such samples and
            their rate; the path of a sound file; a list of these; None = no sound.
        rate: Samples per second wanted.

    Returns:
        float32 [T] each.

    Raises:
        TypeError: Something that is no sound.
        ValueError: No samples, another shape, NaN or Inf, a rate that no sound has.
    """
    if audio is None:
        return []
    if isinstance(audio, list):
        return [wave for each in audio for wave in to_waves(each, rate)]
    return [_mono(wave, own, rate) for wave, own in _channels(audio)]


def _channels(audio: Any) -> list[tuple[np.ndarray, int]]:
    """Each sound [C, T] with its rate."""
    if isinstance(audio, str | Path):
        samples, rate = read_sound(audio)
    elif isinstance(audio, Mapping):
        missing = [key for key in ("waveform", "sample_rate") if audio.get(key) is None]
        if missing:
            raise TypeError(f"This sound has no {missing[0]}; expected {_EXPECTED}.")
        samples, rate = audio["waveform"], audio["sample_rate"]
    elif isinstance(audio, tuple) and len(audio) == 2:
        samples, rate = audio
    else:
        raise TypeError(f"A {type(audio).__name__} is no sound; expected {_EXPECTED}.")
    return [(one, _rate(rate)) for one in _samples(samples)]


def _samples(samples: Any) -> np.ndarray:
    """[B, C, T] of what may have fewer dimensions."""
    if isinstance(samples, torch.Tensor):
        samples = samples.detach().to("cpu", torch.float32).numpy()
    try:
        array = np.asarray(samples, dtype=np.float32)
    except (TypeError, ValueError):
        raise TypeError(f"The samples of a sound are {told(samples)}, expected numbers.") from None
    if not 1 <= array.ndim <= 3:
        raise ValueError(
            f"The samples of a sound are {list(array.shape)}, expected [T], [C, T] or [B, C, T]."
        )
    array = array.reshape((1,) * (3 - array.ndim) + array.shape)
    if not array.size:
        raise ValueError(
            f"This sound is empty: its samples are {list(array.shape)}. Give one that is at least "
            "0.03 seconds long, or none."
        )
    if array.shape[-1] > MOST_SAMPLES:
        raise ValueError(
            f"This sound has {array.shape[-1]} samples, at most {MOST_SAMPLES} are read. Cut out "
            "the part that is meant."
        )
    if not np.isfinite(array).all():
        raise ValueError("This sound holds NaN or Inf. Give samples that are finite, -1 to 1.")
    return array


def _rate(rate: Any) -> int:
    """A sample rate as a whole number."""
    known = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
    if not known or not LOWEST_RATE <= rate <= HIGHEST_RATE or rate != int(rate):
        raise ValueError(
            f"The sample rate of this sound is {told(rate)}, expected a whole number from "
            f"{LOWEST_RATE} to {HIGHEST_RATE} samples per second."
        )
    return int(rate)


def _mono(wave: np.ndarray, own: int, rate: int) -> np.ndarray:
    """One channel of [C, T], at another rate."""
    mono = wave.mean(axis=0, dtype=np.float32)
    if own == rate:
        return mono
    from scipy.signal import resample_poly

    common = gcd(own, rate)
    return resample_poly(mono, rate // common, own // common).astype(np.float32)
