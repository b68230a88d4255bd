"""Sounds of a prompt, as log-mel spectra."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..files.json_file import read_json
from ..logger import LOG
from ..pictures.preprocessor_values import refusal
from ..quoted import told
from .waves import to_waves

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor

# Qwen2.5-Omni's preprocessor_config.json, and the numbers that a model could have instead.
_PUBLISHED = {
    "feature_size": 128, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 300,
    "n_fft": 400,
}  # fmt: skip
_BOUNDS = {
    "feature_size": (1, 1024), "sampling_rate": (8000, 48000), "hop_length": (1, 4800),
    "chunk_length": (1, 3600), "n_fft": (16, 4096),
}  # fmt: skip
_FILES = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, eq=False)
class SoundInput:
    """A sound at the model's rate; its spectrum is made only when the audio tower runs.

    Attributes:
        wave: float32 [T].
        rules: How it becomes a spectrum.
        tokens: Tokens it takes.
        milliseconds: Time from one token to the next.
    """

    wave: np.ndarray
    rules: SoundPreprocessor
    tokens: int
    milliseconds: int

    @property
    def frames(self) -> int:
        """Steps of its spectrum."""
        return self.rules.frames(len(self.wave))

    def spectrum(self) -> torch.Tensor:
        """Log-mel spectrum, float32 [mel, frames]."""
        return self.rules.spectrum(self.wave)

    def digest(self) -> bytes:
        """Of what the audio tower hears."""
        return hashlib.sha256(b"sound" + self.wave.tobytes()).digest()


@dataclass(frozen=True)
class SoundPreprocessor:
    """How a model wants its sounds: Whisper's log-mel spectrum.

    Attributes:
        feature_size: Mel bands.
        sampling_rate: Samples per second.
        hop_length: Samples from one step of the spectrum to the next.
        chunk_length: Seconds of the longest sound; what is behind them is not heard.
        n_fft: Samples that one step looks at.
    """

    feature_size: int
    sampling_rate: int
    hop_length: int
    chunk_length: int
    n_fft: int

    def prepare(self, audio: Any) -> list[SoundInput]:
        """The sounds of a prompt.

        Args:
            audio: In any form that `waves.to_waves` takes.

        Raises:
            TypeError: Something that is no sound.
            ValueError: A sound that cannot be read, or too short to be one token.
        """
        return [self._prepare(wave) for wave in to_waves(audio, self.sampling_rate)]

    def _prepare(self, wave: np.ndarray) -> SoundInput:
        most = self.chunk_length * self.sampling_rate
        if len(wave) > most:
            LOG.warning(
                "A sound is %.0f seconds long; the model hears the first %d of them.",
                len(wave) / self.sampling_rate,
                self.chunk_length,
            )
            wave = wave[:most]
        tokens = tokens_of(self.frames(len(wave)))
        if tokens < 1:
            raise ValueError(
                f"This sound is {len(wave) / self.sampling_rate:.3f} seconds long, too short for "
                "one token. Give one that is at least 0.03 seconds long, or none."
            )
        step = 4 * self.hop_length * 1000 // self.sampling_rate
        return SoundInput(wave, self, tokens, step)

    def frames(self, samples: int) -> int:
        """Steps of the spectrum of so many samples."""
        return ceil(samples / self.hop_length)

    def spectrum(self, wave: np.ndarray) -> torch.Tensor:
        """Log-mel spectrum [mel, frames] of a sound [T], as transformers' own class makes it.

        The family's processor pads to the longest sound first, which changes the last steps alone:
        they look beyond the end. So much is padded here.
        """
        beyond = ceil(self.n_fft / self.hop_length) * self.hop_length
        most = self.chunk_length * self.sampling_rate
        padded = np.pad(wave, (0, max(min(beyond, most - len(wave)), 0)))
        made = self._extractor(
            padded, sampling_rate=self.sampling_rate, padding="longest", truncation=False,
            return_tensors="pt",
        )  # fmt: skip
        return made["input_features"][0, :, : self.frames(len(wave))]

    @cached_property
    def _extractor(self) -> WhisperFeatureExtractor:
        from transformers import WhisperFeatureExtractor

        return WhisperFeatureExtractor(**{name: getattr(self, name) for name in _PUBLISHED})


def tokens_of(frames: int) -> int:
    """Tokens of so many steps of a spectrum: a convolution halves them, then pairs are averaged.

    Source: Qwen2.5-Omni, `_get_feat_extract_output_lengths` of transformers.
    """
    return (((frames - 1) // 2 + 1) - 2) // 2 + 1


def read_sound_preprocessor(folder: Path) -> SoundPreprocessor:
    """Reads what a model folder's preprocessor files say of sounds.

    Args:
        folder: In Hugging Face layout. A missing file means Qwen2.5-Omni's published values.

    Raises:
        ValueError: A file that is not JSON, or a number that cannot be.
    """
    said: dict[str, Any] = {}
    for name in _FILES:
        file = folder / name
        content = read_json(file) if file.is_file() else {}
        inside = content.get("feature_extractor", content)
        if inside and not isinstance(inside, dict):
            raise ValueError(
                f"{name} has feature_extractor {told(inside)}, expected a mapping. Download the "
                "file again."
            )
        said = {**(inside or {}), **said}
    numbers = {name: said.get(name) or value for name, value in _PUBLISHED.items()}
    for name, value in numbers.items():
        low, high = _BOUNDS[name]
        if type(value) is not int or not low <= value <= high:
            expected = f"a whole number from {low} to {high}"
            raise refusal(value, name, expected, f"preprocessor_config.json of {folder}")
    return SoundPreprocessor(**numbers)
