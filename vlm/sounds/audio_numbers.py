"""Numbers of a config.json that sounds are cut by: what cannot be meant is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..arguments import told
from .preprocessor import SoundPreprocessor

_LARGEST = 2**20
_AUDIO = (
    "n_window", "num_mel_bins", "d_model", "encoder_attention_heads", "max_source_positions",
    "output_dim",
)  # fmt: skip
_TOP = ("position_id_per_seconds", "seconds_per_chunk")


def check_audio_numbers(config: Mapping[str, Any], hearing: SoundPreprocessor, where: Path) -> None:
    """Compares the numbers of an audio tower with each other and with its preprocessor's.

    Args:
        config: Content of config.json.
        hearing: What the preprocessor files say.
        where: Whose it is, for the message.

    Raises:
        ValueError: Names the key.
    """
    audio = config.get("audio_config") or {}
    for part, keys in ((audio, _AUDIO), (config, _TOP)):
        for key in keys:
            value = part.get(key)
            if value is not None and (type(value) is not int or not 1 <= value <= _LARGEST):
                raise _refusal(where, key, value, f"a whole number from 1 to {_LARGEST}")
    bands = audio.get("num_mel_bins")
    if bands is not None and bands != hearing.feature_size:
        raise _refusal(
            where, "num_mel_bins", bands, f"{hearing.feature_size}, the preprocessor's feature_size"
        )
    width, heads = audio.get("d_model"), audio.get("encoder_attention_heads")
    if width is not None and (width % 2 or (heads is not None and width % heads)):
        raise _refusal(where, "d_model", width, f"an even multiple of its {heads} attention heads")
    window, places = audio.get("n_window"), audio.get("max_source_positions")
    if window is not None and places is not None and window > places:
        raise _refusal(where, "n_window", window, f"at most max_source_positions, {places}")


def _refusal(where: Path, key: str, value: Any, expected: str) -> ValueError:
    return ValueError(
        f"The config.json of {where} says {key} {told(value)}, expected {expected}. Download "
        "config.json and preprocessor_config.json again."
    )
